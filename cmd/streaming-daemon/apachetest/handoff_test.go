package apachetest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/apachetest"
	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse"
)

// mod_socket_handoff cannot be had here, so an Apache with its configuration must refuse to start, for the reason that
// the file gives: everything up to there is then parsed, and PHP's headers cannot leave with the response.
func TestHandoffNeedsTheModule(t *testing.T) {
	t.Parallel()
	for without, want := range map[string]string{
		"":        "mod_socket_handoff is not loaded",
		"headers": "load mod_headers first",
	} {
		says, ok := apachetest.Check(t, apachetest.Config{MPM: apachetest.Event, Site: "socket-handoff.conf",
			Socket: "/run/streaming-daemon/seqpacket.sock", Without: without})
		if ok || !strings.Contains(says, want) {
			t.Errorf("without %q: %t, %s", without, ok, says)
		}
	}
	if says, ok := apachetest.Check(t, apachetest.Config{MPM: apachetest.Prefork, Site: withoutModule(t)}); !ok {
		t.Errorf("and no other fault: %s", says)
	}
}

// withoutModule is socket-handoff.conf with the two lines taken out that stop an Apache without the module.
func withoutModule(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(apachetest.Deploy(t), "apache", "socket-handoff.conf"))
	if err != nil {
		t.Fatal(err)
	}
	stop := regexp.MustCompile(`(?m)^ *Error ".*"\n`)
	if n := len(stop.FindAll(text, -1)); n != 2 {
		t.Fatalf("%d lines stop Apache, want 2", n)
	}
	path := filepath.Join(t.TempDir(), "socket-handoff.conf")
	if err := os.WriteFile(path, stop.ReplaceAll(text, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Goal: the daemon understands what PHP's endpoint says. Method: Apache and PHP run it, without the module; the test
// takes the two headers as the module would, hands a client over with them, and reads what the client gets.
func TestHandoffFromPHP(t *testing.T) {
	eachMPM(t, func(t *testing.T, mpm apachetest.MPM) {
		d := daemontest.Start(t)
		a := apachetest.Start(t, apachetest.Config{MPM: mpm, Site: withoutModule(t), Socket: d.Seqpacket})
		user, stranger := newBrowser(t, a, a.SignIn("42")), newBrowser(t, a, "")
		const jsonType, formType = "application/json", "application/x-www-form-urlencoded"
		for _, prompt := range []string{"hello", "", "日本語 \U0001f600 é", "a\r\nX-Evil: 1\r\n\r\nb", `"quoted" \ </script>`, "\x7f\u2028"} {
			asJSON, err := json.Marshal(map[string]string{"prompt": prompt})
			if err != nil {
				t.Fatal(err)
			}
			inURL := url.Values{"prompt": {prompt}}.Encode()
			for name, r := range map[string]*http.Request{
				"GET":  user.request("GET", "/stream?"+inURL, ""),
				"form": user.request("POST", "/stream", inURL, "Content-Type", formType),
				"JSON": user.request("POST", "/stream", string(asJSON), "Content-Type", jsonType),
			} {
				got := user.ask(t, r)
				if got.status != 200 || got.body != "" || got.header.Get("X-Evil") != "" || got.header.Get("X-Socket-Handoff") != d.Seqpacket {
					t.Fatalf("%s of %q: %+v", name, prompt, got)
				}
				payload := got.header.Get("X-Handoff-Data")
				p, err := fdrecv.ParsePayload([]byte(payload))
				if err != nil || p.Prompt != prompt || p.UserID != "42" || p.RequestID == "" {
					t.Fatalf("%s of %q: %s: %+v, %v", name, prompt, payload, p, err)
				}
				if name == "JSON" {
					stream(t, d, payload, p.RequestID, prompt)
				}
			}
		}
		for _, tt := range []struct {
			name   string
			r      *http.Request
			status int
		}{
			{"nobody", stranger.request("GET", "/stream?prompt=x", ""), 401},
			{"another site's page", user.request("GET", "/stream?prompt=x", "", "Sec-Fetch-Site", "same-site"), 403},
			{"no prompt", user.request("GET", "/stream", ""), 400},
			{"a prompt that is a list", user.request("GET", "/stream?prompt[]=x", ""), 400},
			{"JSON that is none", user.request("POST", "/stream", `{"prompt":`, "Content-Type", jsonType), 400},
			{"JSON that is no object", user.request("POST", "/stream", `"prompt"`, "Content-Type", jsonType), 400},
			{"more than a message holds", user.request("POST", "/stream", "prompt="+strings.Repeat("x", 212960), "Content-Type", formType), 413},
		} {
			got := user.ask(t, tt.r)
			if got.status != tt.status || got.header.Get("X-Handoff-Data") != "" || !strings.Contains(got.body, `"message"`) {
				t.Errorf("%s: %+v, want status %d", tt.name, got, tt.status)
			}
		}
		// The configuration says which of the two takes long prompts.
		long := strings.Repeat("long ", 4000)
		got := user.ask(t, user.request("POST", "/stream", "prompt="+url.QueryEscape(long), "Content-Type", formType))
		switch p, _ := fdrecv.ParsePayload([]byte(got.header.Get("X-Handoff-Data"))); {
		case mpm == apachetest.Prefork && p.Prompt == long:
		case mpm == apachetest.Event && got.status == http.StatusInternalServerError:
		default:
			t.Errorf("a prompt of 20 kB: %d, %d bytes of payload", got.status, len(got.header.Get("X-Handoff-Data")))
		}
	})
}

// stream hands a client over with the payload and reads its stream.
func stream(t testing.TB, d *daemontest.Daemon, payload, id, prompt string) {
	t.Helper()
	server, client := fdtest.TCPPair(t)
	defer server.Close()
	if err := fdrecv.Send(d.Seqpacket, fdrecv.KindSeqpacket, server.Int(), []byte(payload), patience); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	status, headLen, err := sse.ParseHead(all)
	if err != nil || status != http.StatusOK || !bytes.Contains(all[:headLen], []byte("X-Request-Id: "+id+"\r\n")) {
		t.Fatalf("%d, %v: %q", status, err, all)
	}
	if text := textOf(t, parse(t, all[headLen:])); !strings.HasSuffix(text, prompt) {
		t.Errorf("%q became %q", prompt, text)
	}
}
