package main_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mockllm "streaming-daemon-go/bench/mockllm"
	"streaming-daemon-go/fdrecv/fdtest"
)

// The command listens where its flags say, tells its bases, takes its key from a file, writes a certificate that clients
// can trust, replies by its flags, and ends with its context.
func TestCommand(t *testing.T) {
	fdtest.NoLeaks(t)
	dir := t.TempDir()
	keyFile, cert, socket := filepath.Join(dir, "key"), filepath.Join(dir, "cert"), filepath.Join(dir, "s")
	if err := os.WriteFile(keyFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- mockllm.Run(ctx, []string{"-http", "127.0.0.1:0", "-https", "127.0.0.1:0", "-unix", socket, "-cert", cert, "-key-file", keyFile,
			"-events", "3", "-text", "words", "-script", `{"events":2,"escape":"all"}`}, out)
		_ = out.Close()
	}()
	lines := bufio.NewReader(in)
	var bases [3]string
	for i := range bases {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err, <-ended)
		}
		bases[i] = strings.TrimSpace(line)
	}
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %q", pem)
	}
	overTCP := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	overUnix := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	for i, way := range []struct {
		transport *http.Transport
		scheme    string
		major     int
	}{{overTCP, "http://127.0.0.1:", 1}, {overTCP, "https://127.0.0.1:", 2}, {overUnix, "http://localhost/v1", 1}} {
		if !strings.HasPrefix(bases[i], way.scheme) {
			t.Errorf("base %d is %s", i, bases[i])
		}
		for key, status := range map[string]int{"secret": 200, "wrong": 401} {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, bases[i]+"/chat/completions",
				strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+key)
			resp, err := (&http.Client{Transport: way.transport}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != status || resp.ProtoMajor != way.major {
				t.Errorf("%s, key %s: %s %s, %v", bases[i], key, resp.Proto, resp.Status, err)
			}
			if n := strings.Count(string(b), `"content":"\u00`); status == 200 && n != 2 {
				t.Errorf("%s: %d pieces of text in %s", bases[i], n, b)
			}
		}
		way.transport.CloseIdleConnections()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestCommandLineThatIsWrong(t *testing.T) {
	for _, args := range [][]string{
		{"x"}, {"-nonsense"}, {"-script", "{"}, {"-script", `{"evnets":1}`}, {"-text", "nonsense"}, {"-delay", "-1s"}, {"-key-file", "/nonexistent/key"},
		{"-http", "256.0.0.1:1"}, {"-cert", "/nonexistent/cert"},
	} {
		if err := mockllm.Run(t.Context(), args, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
