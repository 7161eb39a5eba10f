package deptest_test

import (
	"fmt"
	"strings"
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// recorder is a testing.TB that keeps its failures to itself.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

// Goal: a check holds for exactly one list. Method: packages of this module;
// lists that are right, short, and long.
func TestExact(t *testing.T) {
	const unix, loop = "golang.org/x/sys/unix", "loop"
	for _, tt := range []struct {
		name    string
		check   func(testing.TB, string, ...string)
		pattern string
		want    []string
		says    string // in the failure; empty: none
	}{
		{"right", deptest.Imports, "streaming-daemon-go/fdrecv", []string{unix, loop}, ""},
		{"in any order", deptest.Imports, "streaming-daemon-go/fdrecv", []string{loop, unix}, ""},
		{"one is missing", deptest.Imports, "streaming-daemon-go/fdrecv", []string{unix}, `fdrecv imports ["golang.org/x/sys/unix" "loop"]`},
		{"one is too many", deptest.Imports, "streaming-daemon-go/fdrecv", []string{unix, loop, "sse"}, `"sse"`},
		{"several packages", deptest.Imports, "streaming-daemon-go/fdrecv/...", []string{unix, loop}, ""},
		{"none", deptest.Deps, ".", nil, ""},
		{"far down", deptest.Deps, "streaming-daemon-go/fdrecv", []string{unix, loop}, "github.com/cloudwego/netpoll"},
		{"nothing there", deptest.Imports, "streaming-daemon-go/nothing", nil, "go list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{TB: t}
			func() {
				defer func() {
					if v := recover(); v != nil && v != r {
						panic(v)
					}
				}()
				tt.check(r, tt.pattern, tt.want...)
			}()
			if said := strings.Join(r.failures, "\n"); (said != "") != (tt.says != "") || !strings.Contains(said, tt.says) {
				t.Errorf("it says %q, want %q", said, tt.says)
			}
		})
	}
}
