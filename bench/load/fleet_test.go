package load_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/wire"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse"
)

const messages = 5

var whole = wire.Head + strings.Repeat(wire.Event, messages) + wire.Done

// send is a script that writes s.
func send(s string) script {
	return func(client net.Conn, _ string) { _, _ = io.WriteString(client, s) }
}

// sendPrompt writes a stream of the prompt's words, changed by change.
func sendPrompt(change func(words []string) []string) script {
	return func(client net.Conn, prompt string) {
		words := append([]string{"Hello!"}, strings.Fields(prompt)...)
		b := []byte(wire.Head)
		for i, w := range change(words) {
			if i > 0 {
				w = " " + w
			}
			b = sse.AppendContent(b, w)
		}
		_, _ = client.Write(append(b, wire.Done...))
	}
}

// play runs a fleet of n clients to its end and gives what became of them.
func play(t *testing.T, conf load.Config, n int, during func(*load.Fleet)) load.Counts {
	t.Helper()
	conf.Streams = n
	f, err := load.NewFleet(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Open(n, 0, 0); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during(f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := f.Wait(ctx, func(c load.Counts) bool { return int(c.Opened) == n && c.Live() == 0 }); err != nil {
		t.Fatalf("%v: %+v", err, f.Counts())
	}
	return f.Counts()
}

func until(t *testing.T, f *load.Fleet, what string, done func(load.Counts) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := f.Wait(ctx, done); err != nil {
		t.Fatalf("%s: %v: %+v", what, err, f.Counts())
	}
}

// The harness must be as good at finding what is wrong as the daemon is at being right: a daemon that tears, cuts or
// mixes up streams is run against it, and each stream must come back as the fault that it is.
func TestFaultsAreFound(t *testing.T) {
	swap := func(words []string) []string {
		words[3], words[4] = words[4], words[3]
		return words
	}
	const finish = "event: finish_reason\ndata: {\"finish_reason\":\"stop\"}\n\n"
	relayed := strings.Replace(whole, wire.Done, finish+wire.Done, 1)
	tests := []struct {
		name    string
		play    script
		prompt  bool
		relayed bool
		want    load.Fault
	}{
		{name: "whole", play: send(whole)},
		{name: "whole, in single bytes", play: func(client net.Conn, _ string) {
			for i := range len(whole) {
				_, _ = io.WriteString(client, whole[i:i+1])
			}
		}},
		{name: "whole, with heartbeats", play: send(strings.ReplaceAll(whole, wire.Event, ": heartbeat\n\n"+wire.Event))},
		{name: "whole prompt", play: sendPrompt(func(w []string) []string { return w }), prompt: true},
		{name: "nothing", play: send(""), want: load.FaultLost},
		{name: "no head", play: send(wire.Event), want: load.FaultHead},
		{name: "half a head", play: send(wire.Head[:40]), want: load.FaultHead},
		{name: "rejected", play: send("HTTP/1.1 503 Service Unavailable\r\n\r\n"), want: load.FaultStatus},
		{name: "another event", play: send(strings.Replace(whole, "fox", "cat", 1)), want: load.FaultCorrupt},
		{name: "bytes lost within", play: send(strings.Replace(whole, "quick ", "", 1)), want: load.FaultCorrupt},
		{name: "event after the end", play: send(whole + wire.Event), want: load.FaultOrder},
		{name: "the end before an event", play: send(wire.Head + strings.Repeat(wire.Event, messages-1) + wire.Done + wire.Event), want: load.FaultOrder},
		{name: "one event more", play: send(strings.Replace(whole, wire.Done, wire.Event+wire.Done, 1)), want: load.FaultExtra},
		{name: "error event", play: send(wire.Head + wire.Event + "event: error\ndata: {}\n\n"), want: load.FaultErrorEvent},
		{name: "torn", play: send(whole[:len(wire.Head)+len(wire.Event)+10]), want: load.FaultTorn},
		{name: "torn in its last byte", play: send(whole[:len(whole)-1]), want: load.FaultTorn},
		{name: "no [DONE]", play: send(strings.TrimSuffix(whole, wire.Done)), want: load.FaultShort},
		{name: "one event less", play: send(strings.Replace(whole, wire.Event, "", 1)), want: load.FaultShort},
		{name: "relayed", play: send(relayed), relayed: true},
		{name: "relayed, nobody asked for it", play: send(relayed), want: load.FaultErrorEvent},
		{name: "relayed without a finish_reason", play: send(whole), relayed: true, want: load.FaultShort},
		{name: "relayed with two", play: send(strings.Replace(relayed, finish, finish+finish, 1)), relayed: true, want: load.FaultOrder},
		{name: "relayed, text behind it", play: send(strings.Replace(whole, wire.Event, wire.Event+finish, 1)), relayed: true, want: load.FaultOrder},
		{name: "relayed with an error", play: send(wire.Head + wire.Event + "event: error\ndata: {}\n\n"), relayed: true, want: load.FaultErrorEvent},
		{name: "words swapped", play: sendPrompt(swap), prompt: true, want: load.FaultOrder},
		{name: "word missing", play: sendPrompt(func(w []string) []string { return append(w[:3], w[4:]...) }), prompt: true, want: load.FaultShort},
		{name: "word of another stream", play: sendPrompt(func(w []string) []string { w[2] = "intruder-from-elsewhere"; return w }), prompt: true, want: load.FaultCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			for _, client := range []load.ClientType{load.TCP, load.Pair} {
				for _, socketType := range []load.SocketType{load.Stream, load.Seqpacket} {
					counts := play(t, load.Config{
						SocketPath: fakeDaemon(t, socketType, tt.play), SocketType: socketType, Client: client,
						Expect: load.Expect{Messages: messages, Prompt: tt.prompt, Relayed: tt.relayed},
					}, 3, nil)
					if want := tt.want; counts.Faults[want] != 3 && want != load.FaultNone || counts.FaultsAll() != counts.Faults[want] {
						t.Errorf("%v over %v: want 3 × %v, got %s", client, socketType, want, describe(counts))
					}
					if tt.want == load.FaultNone && counts.Finished != 3 {
						t.Errorf("%v over %v: %s", client, socketType, describe(counts))
					}
				}
			}
		})
	}
}

func describe(c load.Counts) string {
	s := "finished " + strconv.FormatUint(c.Finished, 10)
	for _, f := range load.Faults() {
		if c.Faults[f] > 0 {
			s += ", " + f.String() + " " + strconv.FormatUint(c.Faults[f], 10)
		}
	}
	return s
}

// A reset is not an end: the kernel throws away what the client had not read.
func TestResetIsFound(t *testing.T) {
	fdtest.NoLeaks(t)
	path := fakeDaemon(t, load.Seqpacket, func(client net.Conn, _ string) {
		_, _ = io.WriteString(client, wire.Head+wire.Event)
		_ = client.(*net.TCPConn).SetLinger(0)
	})
	counts := play(t, load.Config{SocketPath: path, Expect: load.Expect{Messages: messages}}, 1, nil)
	if counts.Faults[load.FaultReset] != 1 {
		t.Errorf("want a reset, got %s", describe(counts))
	}
}

// A stream that nobody ends stays open until the run gives up, and is a fault then.
func TestStreamWithoutEndIsFound(t *testing.T) {
	fdtest.NoLeaks(t)
	release := make(chan struct{})
	path := fakeDaemon(t, load.Seqpacket, func(client net.Conn, _ string) {
		_, _ = io.WriteString(client, whole)
		<-release
	})
	counts := play(t, load.Config{SocketPath: path, Expect: load.Expect{Messages: messages}}, 2, func(f *load.Fleet) {
		until(t, f, "all events", func(c load.Counts) bool { return c.Events == 2*messages })
		if live := f.Counts().Live(); live != 2 {
			t.Errorf("%d open after [DONE], want 2: only the end of the connection ends a stream", live)
		}
		if err := f.Abandon(); err != nil {
			t.Fatal(err)
		}
	})
	close(release)
	if counts.Faults[load.FaultTimeout] != 2 {
		t.Errorf("want 2 timeouts, got %s", describe(counts))
	}
}

// A handoff that the daemon took and forgot must not pass for a client that left, whether it reads or not.
func TestForgottenClientsAreFound(t *testing.T) {
	release := make(chan struct{})
	path := fakeDaemon(t, load.Seqpacket, func(net.Conn, string) { <-release })
	conf := load.Config{SocketPath: path, Expect: load.Expect{Messages: messages}, SlowShare: 0.5}
	const n = 8
	counts := play(t, conf, n, func(f *load.Fleet) {
		until(t, f, "handoffs", func(c load.Counts) bool { return c.Handed == n })
		if err := f.LeaveAll(); err != nil {
			t.Fatal(err)
		}
	})
	close(release)
	if counts.Faults[load.FaultTimeout] != n {
		t.Errorf("want %d timeouts, got %s, left %d", n, describe(counts), counts.Left)
	}
}

// Nobody listens: every client is accounted for as a failed handoff, and no descriptor stays.
func TestHandoffRefused(t *testing.T) {
	fdtest.NoLeaks(t)
	counts := play(t, load.Config{SocketPath: t.TempDir() + "/none", Expect: load.Expect{Messages: 1}}, 3, nil)
	if counts.Faults[load.FaultHandoff] != 3 {
		t.Errorf("want 3 failed handoffs, got %s", describe(counts))
	}
}

// Clients that leave, read slowly or not at all are no faults, and hold nothing back of the others.
func TestRolesArePlayed(t *testing.T) {
	fdtest.NoLeaks(t)
	release := make(chan struct{})
	var begun atomic.Int64
	path := fakeDaemon(t, load.Seqpacket, func(client net.Conn, _ string) {
		_, _ = io.WriteString(client, strings.TrimSuffix(whole, wire.Done))
		begun.Add(1)
		<-release
		_, _ = io.WriteString(client, wire.Done)
	})
	const n = 40
	conf := load.Config{SocketPath: path, Expect: load.Expect{Messages: messages}, SlowShare: 0.25, LeaveShare: 0.5,
		LeaveWithin: time.Millisecond, Workers: 2}
	counts := play(t, conf, n, func(f *load.Fleet) {
		until(t, f, "leavers", func(c load.Counts) bool { return c.Handed == n && c.Left == n/2 })
		close(release)
		until(t, f, "readers", func(c load.Counts) bool { return c.Finished == n/4 && begun.Load() == n })
		if err := f.LeaveSlow(); err != nil {
			t.Fatal(err)
		}
	})
	if counts.FaultsAll() > 0 || counts.Left+counts.Finished+counts.Evicted != n || counts.Left < n/2 {
		t.Errorf("left %d, evicted %d, %s", counts.Left, counts.Evicted, describe(counts))
	}
}

func TestSharesAreSpread(t *testing.T) {
	readers, stallers, tricklers, leavers := load.Roles(load.Config{SlowShare: 0.2, LeaveShare: 0.1}, 1000)
	if stallers != 100 || tricklers != 100 || leavers != 100 || readers != 700 {
		t.Errorf("%d read, %d stall, %d trickle, %d leave", readers, stallers, tricklers, leavers)
	}
}

// The bound of churn is a bound: there are never more clients open, and each end opens the next.
func TestConcurrencyIsBounded(t *testing.T) {
	path := fakeDaemon(t, load.Seqpacket, send(whole))
	conf := load.Config{SocketPath: path, Expect: load.Expect{Messages: messages}}
	f, err := load.NewFleet(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Open(200, 4, 0); err != nil {
		t.Fatal(err)
	}
	most := uint64(0)
	until(t, f, "all", func(c load.Counts) bool {
		most = max(most, c.Live())
		return c.Finished == 200
	})
	if most > 4 {
		t.Errorf("%d clients at the same time, want 4 at most", most)
	}
}
