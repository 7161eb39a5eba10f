package config

import (
	"fmt"
	"strings"
)

// Fault is one thing that is wrong with the settings. Its text is one line, with nothing in it that a terminal would
// obey, whatever the file has.
type Fault struct {
	Where string // FILE:LINE:COLUMN; empty: Text names it
	Text  string
}

func (f Fault) Error() string {
	if f.Where == "" {
		return f.Text
	}
	return f.Where + ": " + f.Text
}

// Faults is everything that is wrong, in the order in which it was found.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, 0, len(f))
	for _, fault := range f {
		lines = append(lines, fault.Error())
	}
	return strings.Join(lines, "\n")
}

// orNil keeps an empty Faults from being an error.
func (f Faults) orNil() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

func (f *Faults) add(where, format string, args ...any) {
	*f = append(*f, Fault{Where: where, Text: fmt.Sprintf(format, args...)})
}

// mustBe is the text of a value that is not what it must be.
func mustBe(name, got string, err error) string {
	const shown = 100 // bytes of the value
	if len(got) > shown {
		got = got[:shown] + "…"
	}
	return fmt.Sprintf("%s is %q: it must be %v", name, got, err)
}

// nearest gives the name that got was probably meant to be.
func nearest(got string, names []string) string {
	best, least := "", 0
	for _, name := range names {
		if d := distance(got, name); best == "" || d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many bytes have to be changed, added or taken away to make b of a (Levenshtein). Only the start of a
// long a counts.
func distance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
