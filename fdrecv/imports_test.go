package fdrecv_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fdrecv knows loop and nothing else of ours, and of the outside only what talks to the kernel. Its tests may use
// fdtest.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			std := !strings.Contains(path, ".") && !strings.HasPrefix(path, "streaming-daemon-go/")
			if !std && path != "streaming-daemon-go/loop" && path != "golang.org/x/sys/unix" {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}
