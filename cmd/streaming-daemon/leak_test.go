package main_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// Goal: nothing is left of a stream, however it ended: no descriptor, no goroutine, no gauge. Method: 2,000 clients in
// batches, of which a third read to the end, a third leave after the first event, and a third leave at once with a
// reset; beside them handoffs of every broken sort. Descriptors and goroutines are counted after a first batch, which
// is when pools and buffers exist, and at the end.
func TestNothingIsLeftOfAStream(t *testing.T) {
	t.Parallel()
	d := start(t, "-demo-messages", "3")
	var fds int
	var goroutines float64
	const batches, batch = 20, 100
	for n := range batches {
		d.streamsOfEverySort(batch)
		d.brokenHandoffs()
		d.awaitMetric("daemon_active_connections", 0)
		if n == 0 {
			fds, goroutines = countFDs(d.pid()), d.metric("go_goroutines")
		}
	}
	if !holds(patience, func() bool { return countFDs(d.pid()) <= fds }) {
		t.Errorf("%d descriptors after the first batch, %d after the last", fds, countFDs(d.pid()))
	}
	if !holds(patience, func() bool { return d.metric("go_goroutines") <= goroutines }) {
		t.Errorf("%v goroutines after the first batch, %v after the last", goroutines, d.metric("go_goroutines"))
	}
	samples := d.scrape()
	if n := samples["daemon_handoffs_total"]; n < batches*batch*2/3 || n > batches*batch {
		t.Errorf("%v handoffs", n) // a reset may come before the handoff is looked at
	}
	if total, open := samples["daemon_connections_total"], samples["process_open_fds"]; total != batches*(batch+4) || open > float64(fds)+3 {
		t.Errorf("%v connections, want %d; %v open descriptors", total, batches*(batch+4), open)
	}
	for _, name := range []string{"daemon_active_streams", "daemon_pending_bytes", "daemon_paused_streams"} {
		if samples[name] != 0 {
			t.Errorf("%s is %v", name, samples[name])
		}
	}
}

// streamsOfEverySort runs n streams at a time.
func (d *daemon) streamsOfEverySort(n int) {
	d.t.Helper()
	answers := map[int]<-chan raw{}
	for i := range n {
		kind := kinds[i/3%len(kinds)]
		client := d.handOver(kind, "")
		switch i % 3 {
		case 0:
			answers[i] = readLater(client)
		case 1: // in the middle: something has come
			if _, err := client.Read(make([]byte, 1)); err != nil {
				d.t.Fatal(err)
			}
			_ = client.Close()
		default:
			_ = client.SetLinger(0)
			_ = client.Close()
		}
	}
	for i, c := range answers {
		if a := parse(d.t, <-c, kinds[i/3%len(kinds)] == fdrecv.KindFDPass); !a.complete() {
			d.t.Errorf("%+v", a)
		}
	}
}

// brokenHandoffs makes four: two descriptors, a pipe, no descriptor, nothing at all.
func (d *daemon) brokenHandoffs() {
	d.t.Helper()
	server, client := fdtest.TCPPair(d.t)
	defer server.Close()
	defer client.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		d.t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	for _, fds := range [][]int{{server.Int(), server.Int()}, {pipe[0]}, {}} {
		sender := fdtest.Dial(d.t, d.path(fdrecv.KindSeqpacket), unix.SOCK_SEQPACKET)
		fdtest.SendFDs(d.t, sender.Int(), []byte("{}"), fds...)
		_ = sender.Close()
	}
	probe := fdtest.Dial(d.t, d.path(fdrecv.KindStream), unix.SOCK_STREAM)
	_ = probe.Close()
}
