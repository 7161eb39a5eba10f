package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// corsPayload is what a page on another origin needs: without this header its fetch() cannot read a refusal.
const corsPayload = `{"prompt":"x","response_headers":{"Access-Control-Allow-Origin":"https://example.org"}}`

// Goal: clients past -max-connections are received all the same and get an answer that they can read (P-19); the
// streams of the others go on; a place is free again as soon as a client left, without a write (P-14). Method: five
// places, ten clients of each protocol.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	const places = 5
	d := start(t, append(endless, "-max-connections", fmt.Sprint(places))...)
	var held []*net.TCPConn
	for range places {
		held = append(held, d.hold(fdrecv.KindSeqpacket, corsPayload))
	}
	for range places {
		for _, kind := range kinds {
			payload := corsPayload
			if kind == fdrecv.KindFDPass {
				payload = ""
			}
			a := d.ask(kind, payload)
			a.refused(t, http.StatusServiceUnavailable)
			if a.header == nil {
				if a.last().retry != 5*time.Second {
					t.Errorf("%v: retry %v", kind, a.last().retry)
				}
				continue
			}
			if a.header.Get("Retry-After") != "5" || a.header.Get("Access-Control-Allow-Origin") != "https://example.org" {
				t.Errorf("%v: head %v", kind, a.header)
			}
		}
	}
	samples := d.scrape()
	for name, want := range map[string]float64{
		"daemon_active_streams":             places,
		"daemon_max_connections":            places,
		"daemon_connections_rejected_total": places * float64(len(kinds)),
		"daemon_handoffs_total":             places * float64(1+len(kinds)),
	} {
		if samples[name] != want {
			t.Errorf("%s is %v, want %v", name, samples[name], want)
		}
	}
	for _, client := range held {
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d.awaitMetric("daemon_active_connections", 0)
	for range places {
		d.hold(fdrecv.KindStream, corsPayload)
	}
	d.ask(fdrecv.KindStream, corsPayload).refused(t, http.StatusServiceUnavailable)
}

// A half-closed client is taken for gone (P-14).
func TestHalfCloseFreesThePlace(t *testing.T) {
	t.Parallel()
	d := start(t, append(endless, "-max-connections", "1")...)
	client := d.hold(fdrecv.KindSeqpacket, "")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	d.awaitMetric("daemon_active_connections", 0)
	d.hold(fdrecv.KindSeqpacket, "")
	if n := d.metric(`daemon_stream_errors_total{reason="client_disconnected"}`); n != 1 {
		t.Errorf("%v clients disconnected", n)
	}
}

// -reject sse: an EventSource comes back by itself after a 200 that ends, and only after that.
func TestRejectSSE(t *testing.T) {
	t.Parallel()
	d := start(t, append(endless, "-max-connections", "1", "-reject", "sse")...)
	d.hold(fdrecv.KindSeqpacket, "")
	for _, kind := range kinds {
		payload := corsPayload
		if kind == fdrecv.KindFDPass {
			payload = ""
		}
		a := d.ask(kind, payload)
		if a.err != nil || len(a.events) != 1 || a.last().name != "overloaded" || a.last().retry != 5*time.Second {
			t.Errorf("%v: %+v", kind, a)
		}
		if a.header != nil && (a.status != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") == "") {
			t.Errorf("%v: status %d, head %v", kind, a.status, a.header)
		}
	}
}

// withFiles starts the daemon under a limit on open files, hard and soft.
func withFiles(n int) []string {
	return []string{"sh", "-c", fmt.Sprintf(`ulimit -Sn %d && ulimit -Hn %d && exec "$0" "$@"`, n, n)}
}

// Goal: a limit on open files that cannot carry -max-connections is one warning, and what it can carry is used to the
// last place: whoever comes beyond hears so, and no descriptor is ever cut off by the kernel (P-18). Method: a limit
// of 640, as many clients as are said to be possible, and as many again, while incomplete handoffs fill their share on
// each socket.
func TestLowLimitOnOpenFiles(t *testing.T) {
	t.Parallel()
	const limit, incomplete = 640, 10
	d := launch(t, setup{args: append(endless, "-handoff-timeout", "1m"), wrap: withFiles(limit)})
	d.awaitLog("ready")
	warning := d.awaitLog("the limit on open files cannot carry -max-connections")
	possible := number(t, warning, "possible")
	if possible < 50 || possible > 400 || number(t, warning, "limit_open_files") != limit {
		t.Fatalf("warning: %v", warning)
	}
	if n := d.metric("daemon_max_connections"); n != float64(possible) {
		t.Errorf("daemon_max_connections is %v, want %d", n, possible)
	}
	// So many are held per socket; each of those on the first has its client across already, and its second descriptor with it.
	server, _ := fdtest.TCPPair(t)
	defer server.Close()
	for range incomplete {
		half := fdtest.Dial(t, d.path(fdrecv.KindStream), unix.SOCK_STREAM)
		defer half.Close()
		fdtest.SendFDs(t, half.Int(), []byte("{"), server.Int())
		for _, kind := range []fdrecv.Kind{fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
			socketType := unix.SOCK_STREAM
			if kind == fdrecv.KindSeqpacket {
				socketType = unix.SOCK_SEQPACKET
			}
			silent := fdtest.Dial(t, d.path(kind), socketType)
			defer silent.Close()
		}
	}
	for range possible {
		d.hold(fdrecv.KindSeqpacket, "")
	}
	// A full house must leave room for what else may come at the same time: scrapes, clients that are refused, and
	// what one turn accepts from each socket.
	const scrapes, refused, turn = 64, 2 * fdrecv.AcceptBudget, 3 * fdrecv.AcceptBudget
	if open := countFDs(d.pid()); open < possible+4*incomplete || open+scrapes+refused+turn > limit {
		t.Errorf("%d descriptors are open with %d streams and %d incomplete handoffs, of %d", open, possible, 3*incomplete, limit)
	}
	for range possible {
		d.ask(fdrecv.KindSeqpacket, "").refused(t, http.StatusServiceUnavailable)
	}
	if got := d.log.find("handoffs wait in the backlog"); got != nil {
		t.Errorf("the table was full: %v", got)
	}
}

// Goal: clients that are refused and do not go cannot take the streams' descriptors: past a reserve they are closed at
// once. Method: a limit of 640, where the reserve is 128, and 200 clients beyond -max-connections that the daemon finds
// all in one moment, as it was made to stand; none of them closes before all have been read.
func TestFloodOfRejections(t *testing.T) {
	t.Parallel()
	const reserve, flood = 2 * fdrecv.AcceptBudget, 200
	d := launch(t, setup{args: append(endless, "-max-connections", "1"), wrap: withFiles(640)})
	d.awaitLog("ready")
	d.hold(fdrecv.KindSeqpacket, "")
	before := countFDs(d.pid())
	d.stop()
	var clients []*net.TCPConn
	for range flood {
		clients = append(clients, d.handOver(fdrecv.KindSeqpacket, ""))
	}
	d.signal(syscall.SIGCONT)
	answered := 0
	for _, client := range clients {
		_ = client.SetReadDeadline(time.Now().Add(patience))
		got, err := io.ReadAll(client) // the client stays open
		switch {
		case len(got) > 0:
			parse(t, raw{bytes: got, err: err}, false).refused(t, http.StatusServiceUnavailable)
			answered++
		case err != nil:
			t.Errorf("closed at once: %v", err)
		}
	}
	if answered != reserve {
		t.Errorf("%d were answered, want %d", answered, reserve)
	}
	if n := d.metric("daemon_connections_rejected_total"); n != flood {
		t.Errorf("%v rejected, want %d", n, flood)
	}
	for _, client := range clients {
		_ = client.Close()
	}
	d.awaitMetric("daemon_active_connections", 1)
	eventually(t, "their descriptors to be closed", func() bool { return countFDs(d.pid()) <= before })
	d.ask(fdrecv.KindSeqpacket, "").refused(t, http.StatusServiceUnavailable) // the reserve is free again
}

func TestTooLowALimitIsRefused(t *testing.T) {
	t.Parallel()
	argv := append(withFiles(100), append([]string{binary}, append(defaultArgs(shortDir(t)), "-log-format", "text")...)...)
	_, stderr, code := runOnce(t, exec.Command(argv[0], argv[1:]...))
	if code != exitFailed || !strings.Contains(stderr, "the limit on open files is 100, too low for any stream") ||
		!strings.Contains(stderr, "LimitNOFILE=") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// Goal: when descriptors run out by something that no arithmetic foresaw, handoffs wait in the backlog, nothing spins,
// and all of them are served once there is room. Method: the limit of the running process is lowered below what it
// has open, and raised again.
func TestRunningOutOfDescriptors(t *testing.T) {
	t.Parallel()
	d := start(t, "-demo-messages", "2")
	var was unix.Rlimit
	pid := d.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}, nil); err != nil {
		t.Fatal(err)
	}
	var answers []<-chan raw
	for i := range 60 {
		answers = append(answers, readLater(d.handOver(kinds[i%len(kinds)], "")))
	}
	d.awaitLog("handoffs wait in the backlog")
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
		t.Fatal(err)
	}
	for i, c := range answers {
		if a := parse(t, <-c, kinds[i%len(kinds)] == fdrecv.KindFDPass); !a.complete() || a.contents() != 2 {
			t.Errorf("client %d: %+v", i, a)
		}
	}
	d.awaitMetric("daemon_active_connections", 0)
	if n := d.metric("daemon_handoffs_total"); n != 60 {
		t.Errorf("%v handoffs, want 60", n)
	}
}
