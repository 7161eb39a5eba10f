package loop_test

import (
	"os/exec"
	"strings"
	"testing"
)

// goList runs go list at the module's root.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %q: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestImportsNothingOfOurs: loop is at the bottom.
func TestImportsNothingOfOurs(t *testing.T) {
	deps := goList(t, "-deps", "./loop")
	found := false
	for _, path := range deps {
		found = found || path == "streaming-daemon-go/loop"
		if strings.HasPrefix(path, "streaming-daemon-go/") && path != "streaming-daemon-go/loop" {
			t.Errorf("loop depends on %s", path)
		}
	}
	if !found {
		t.Errorf("go list does not know loop: %q", deps)
	}
}

// TestOnlyLoopNamesNetpoll: what netpoll is like stays in one package, tests included.
func TestOnlyLoopNamesNetpoll(t *testing.T) {
	const format = `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}{{range .TestImports}} {{.}}{{end}}{{range .XTestImports}} {{.}}{{end}}`
	users := map[string]bool{}
	for _, line := range goList(t, "-e", "-f", format, "./...") { // -e: others' build errors are not our subject
		fields := strings.Fields(line)
		for _, path := range fields[1:] {
			if strings.HasPrefix(path, "github.com/cloudwego/") {
				users[fields[0]] = true
			}
		}
	}
	if len(users) != 1 || !users["streaming-daemon-go/loop"] {
		t.Errorf("netpoll is named by %v", users)
	}
}
