package health_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/health"
	"streaming-daemon-go/loop"
)

// hang makes a loop hang until the function that it gives is called.
func hang(t *testing.T, l *loop.Loop) (release func()) {
	t.Helper()
	held, released := make(chan struct{}), make(chan struct{})
	if err := l.Post(func() { close(held); <-released }); err != nil {
		t.Fatal(err)
	}
	<-held
	return func() { close(released) }
}

func newPool(t *testing.T, n int) *loop.Pool {
	t.Helper()
	pool, err := loop.NewPool(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Goal: the loop that hangs is named, and no other; asking it again and again queues one function, not one each time.
// Method: real loops, the middle one of three held.
func TestHung(t *testing.T) {
	pool := newPool(t, 3)
	posts := &counting{Loop: pool.Loops()[1]}
	c := health.New([]health.Loop{pool.Loops()[0], posts, pool.Loops()[2]})
	if hung := c.Hung(10 * time.Second); hung != nil {
		t.Fatalf("loops %v of three that turn", hung)
	}
	release := hang(t, pool.Loops()[1])
	before := posts.n
	for range 10 {
		if hung := c.Hung(20 * time.Millisecond); !slices.Equal(hung, []int{1}) {
			t.Errorf("loops %v hang, want 1", hung)
		}
	}
	if posts.n != before+1 {
		t.Errorf("%d functions queued on a loop that hangs", posts.n-before)
	}
	release()
	if hung := c.Hung(10 * time.Second); hung != nil {
		t.Errorf("loops %v after they go on", hung)
	}
	pool.Close()
	if hung := c.Hung(time.Millisecond); !slices.Equal(hung, []int{0, 1, 2}) {
		t.Errorf("loops %v of three that are closed", hung)
	}
}

type counting struct {
	health.Loop
	n int
}

func (c *counting) Post(f func()) error {
	c.n++
	return c.Loop.Post(f)
}

func TestHandlers(t *testing.T) {
	pool := newPool(t, 2)
	c := health.New(pool.Loops())
	var why []string
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", c.Alive())
	mux.Handle("GET /readyz", c.Ready(func() []string { return why }))
	check := func(name, path string, status int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != status || strings.TrimSpace(w.Body.String()) != body || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %q %v, want %d %s", name, w.Code, w.Body, w.Header(), status, body)
		}
	}
	check("all turn", "/healthz", 200, `{"status":"ok"}`)
	check("all accept", "/readyz", 200, `{"status":"ready"}`)
	why = []string{"draining"}
	check("alive while it drains", "/healthz", 200, `{"status":"ok"}`)
	check("not ready while it drains", "/readyz", 503, `{"status":"not ready","reasons":["draining"]}`)
	why = nil
	release := hang(t, pool.Loops()[1])
	check("one hangs", "/healthz", 503, `{"status":"hung","loops":[1]}`)
	check("one hangs", "/readyz", 503, `{"status":"not ready","loops":[1],"reasons":["a loop hangs"]}`)
	release()
	check("it goes on", "/healthz", 200, `{"status":"ok"}`)
}
