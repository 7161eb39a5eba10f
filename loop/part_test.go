package loop_test

import (
	"testing"

	"streaming-daemon-go/loop"
)

// Goal: a walk in parts visits whatever is attached from its beginning to its end, however the list changes between
// two parts. Method: after each part, retire one source in front of the walk and one behind it, which moves others into
// the gaps, and attach a new one; those that were never touched must all have been visited, in bounded parts.
func TestEachPart(t *testing.T) {
	const sources, part = 60, 7
	l := newLoop(t)
	set := readySources(t, sources, func(p *probe, _ []*probe) { readAll(p.FD()) })
	set.attach(t, l)
	seen := map[loop.Handler]int{}
	retired := map[loop.Handler]bool{}
	parts := 0
	for from := loop.AllParts; from != 0; {
		on(t, l, func() {
			visited := 0
			next := l.EachPart(from, part, func(h loop.Handler) { seen[h]++; visited++ })
			if visited > part || next > 0 && visited < part-1 { // our own timer's source is passed over
				t.Errorf("a part of %d visited %d, %d are left", part, visited, next)
			}
			from = next
			parts++
			for _, wasSeen := range []bool{true, false} { // one behind, one in front
				for _, p := range set.probes {
					if !retired[p] && (seen[p] > 0) == wasSeen {
						retired[p] = true
						p.Retire()
						break
					}
				}
			}
		})
	}
	for _, p := range set.probes {
		if seen[p] == 0 && !retired[p] {
			t.Errorf("a source that was attached all the time was not visited")
		}
	}
	if len(seen) < sources/2 || parts < sources/part/2 {
		t.Errorf("%d of %d sources visited in %d parts", len(seen), sources, parts)
	}
	on(t, l, func() { // in one part, it is Each
		n := 0
		if next := l.EachPart(loop.AllParts, loop.AllParts, func(loop.Handler) { n++ }); next != 0 || n != l.Sources() {
			t.Errorf("one part visited %d of %d, and left %d", n, l.Sources(), next)
		}
	})
}
