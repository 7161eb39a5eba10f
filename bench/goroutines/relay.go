package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"streaming-daemon-go/bench/wire"
	"streaming-daemon-go/sse"
)

// relayer asks an OpenAI-compatible API and passes the text on, as the daemon's openai backend does in simple mode.
type relayer struct {
	url, model string
	client     *http.Client
}

// newRelayer has one transport for all streams: over https it speaks HTTP/2 with as many connections as it takes.
func newRelayer(opts options) *relayer {
	return &relayer{
		url:   strings.TrimSuffix(opts.base, "/") + "/chat/completions",
		model: opts.model,
		client: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: opts.insecure}, //nolint:gosec // for tests, by flag
			ForceAttemptHTTP2:   true,
			DisableCompression:  true,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     opts.idle,
		}},
	}
}

var errCut = errors.New("the upstream ended before the completion did")

// relay serves one client until the upstream has finished, or either is gone.
func (r *relayer) relay(client net.Conn, p payload) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // tokens cost money: a client that has gone is noticed at once, and that takes a reader
		defer cancel()
		var dropped [16]byte // io.Copy would hold 8 KiB for each client
		for {
			if _, err := client.Read(dropped[:]); err != nil { // whatever it is, the client is gone
				return
			}
		}
	}()
	headSent, err := r.stream(ctx, client, p)
	if err == nil || ctx.Err() != nil {
		return
	}
	var b []byte
	if headSent {
		b = sse.AppendError(b, "the upstream failed", 0)
	} else {
		b = sse.AppendRejection(b, http.StatusBadGateway, 0, nil, "the upstream failed")
	}
	_ = write(client, b) // there is nobody else to tell
}

func (r *relayer) stream(ctx context.Context, client net.Conn, p payload) (headSent bool, err error) {
	resp, err := r.ask(ctx, p)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := write(client, []byte(wire.Head)); err != nil {
		return true, err
	}
	in := bufio.NewReader(resp.Body)
	var out, long []byte
	finished := false
	for {
		line, err := readLine(in, &long)
		switch {
		case err == io.EOF && finished:
			return true, write(client, append(out, sse.Done...))
		case err == io.EOF:
			return true, errCut
		case err != nil:
			return true, err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = bytes.TrimSpace(data)
			if string(data) == "[DONE]" {
				return true, write(client, append(out, sse.Done...))
			}
			if out, err = appendRelayed(out, data, &finished); err != nil {
				return true, err
			}
		}
		if in.Buffered() == 0 && len(out) > 0 { // what came together goes out together
			if err := write(client, out); err != nil {
				return true, err
			}
			out = out[:0]
		}
	}
}

// readLine gives the next line, which is valid until the next call. long is room for one that in has none for.
func readLine(in *bufio.Reader, long *[]byte) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	*long = append((*long)[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = in.ReadSlice('\n')
		*long = append(*long, line...)
	}
	return *long, err
}

// ask sends the request. A status other than 200 is an error.
func (r *relayer) ask(ctx context.Context, p payload) (*http.Response, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	body := map[string]any{"model": r.model, "stream": true, "messages": []message{{"user", p.Prompt}}}
	for name, value := range p.Extra {
		body[name] = value
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("upstream: %s", resp.Status)
	}
	return resp, nil
}

// appendRelayed adds the events that a chunk comes to.
func appendRelayed(out, data []byte, finished *bool) ([]byte, error) {
	var chunk struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
			FinishReason string `json:"finish_reason"`
		} `json:"choices"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &chunk); err != nil {
		return out, err
	}
	if chunk.Error != nil {
		return out, errors.New("the upstream reported an error")
	}
	if len(chunk.Choices) == 0 {
		return out, nil
	}
	choice := &chunk.Choices[0]
	if choice.Delta.Content != "" {
		out = sse.AppendContent(out, choice.Delta.Content)
	}
	if choice.FinishReason != "" {
		*finished = true
		out = append(out, "event: finish_reason\ndata: {\"finish_reason\":"...)
		out = sse.AppendJSONString(out, choice.FinishReason)
		out = append(out, "}\n\n"...)
	}
	return out, nil
}

func write(client net.Conn, b []byte) error {
	if err := client.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := client.Write(b)
	return err
}
