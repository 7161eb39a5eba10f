package compare

import "fmt"

// bar is a figure that the daemon is held to.
type bar struct {
	what    string
	most    float64
	measure func(s *summary) (value float64, ok bool)
}

// bars are the project's own; the daemon is the contestant with the default number of loops.
var bars = []bar{
	{"paced: CPU per event, times the floor's", 1.10, ratio("paced", "CPU per event", floorName)},
	{"paced: CPU per event, times the goroutines'", 0.55, ratio("paced", "CPU per event", goroutinesName)},
	{"paced: lateness p99, ms", 5, absolute("paced", "lateness p99")},
	{"paced: memory per open stream, bytes", 1024, absolute("paced", "memory per stream")},
	{"storm: memory per stream when all have left, bytes", 1024, absolute("storm", "memory per stream when all have left")},
	{"churn: CPU per stream, times the floor's", 1.10, ratio("churn", "CPU per stream", floorName)},
	{"churn: first byte p99, times the floor's", 2, ratio("churn", "first byte p99", floorName)},
	{"slow: lateness p99 of the readers, times that without slow clients", 1.5, func(s *summary) (float64, bool) {
		with, without := s.values("slow", "lateness p99 of readers"), s.values("slow", "the same without slow clients")
		return named(with, s.daemon).RatioTo(named(without, s.daemon))
	}},
	{"all: faults, and descriptors left behind", 0, func(s *summary) (float64, bool) {
		bad := 0.0
		for _, r := range s.runs {
			if r.Contestant != s.daemon {
				continue
			}
			for _, n := range r.Result.Clients.Faults {
				bad += float64(n)
			}
			bad += float64(max(0, r.Result.FDs.After-r.Result.FDs.Idle))
		}
		return bad, true
	}},
}

func ratio(stage, name, to string) func(*summary) (float64, bool) {
	return func(s *summary) (float64, bool) {
		all := s.values(stage, name)
		return named(all, s.daemon).RatioTo(named(all, to))
	}
}

func absolute(stage, name string) func(*summary) (float64, bool) {
	return func(s *summary) (float64, bool) {
		v := named(s.values(stage, name), s.daemon)
		return v.Median(), len(v.ByRound) > 0
	}
}

// judge says what was measured and whether it is enough: what, at most, measured, met.
func (b bar) judge(s *summary) [4]string {
	value, ok := b.measure(s)
	if !ok {
		return [4]string{b.what, figure(b.most), "not measured", ""}
	}
	verdict := "yes"
	if value > b.most {
		verdict = "no"
	}
	return [4]string{b.what, figure(b.most), figure(value), verdict}
}

// Judged is what the daemon is held to and how it fared: what, at most, measured, met.
func (r *Report) Judged() [][4]string {
	s := r.summary()
	var rows [][4]string
	for _, b := range bars {
		rows = append(rows, b.judge(s))
	}
	return rows
}

// figure writes a number with three digits or so.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10 && v > -10:
		return fmt.Sprintf("%.2f", v)
	case v < 100 && v > -100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
