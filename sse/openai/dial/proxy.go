package dial

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"streaming-daemon-go/sse/openai/upstream"
)

// answerMax is how long a proxy's answer to a CONNECT may be: a status line, a few fields.
const answerMax = 16 << 10

// tunnel asks the proxy at the far end of c for a tunnel to the target (RFC 9110, section 9.3.6). It closes c when it
// gets none.
func (d *Dialer) tunnel(ctx context.Context, c net.Conn) (net.Conn, error) {
	err := d.ask(ctx, c)
	if err == nil {
		return c, nil
	}
	_ = c.Close()
	if timedOut(ctx, err) {
		err = fmt.Errorf("%w: proxy", upstream.ErrConnectTimeout)
	}
	return nil, err
}

func (d *Dialer) ask(ctx context.Context, c net.Conn) error {
	// The deadline of the context; and its end before that, when the transport is closed.
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	head := "CONNECT " + d.addr + " HTTP/1.1\r\nHost: " + d.addr + "\r\n"
	if u := d.proxy.User; u != nil {
		password, _ := u.Password()
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := c.Write([]byte(head + "\r\n")); err != nil {
		return fmt.Errorf("%w: proxy: %w", upstream.ErrConnect, err)
	}
	answer, err := readHead(c)
	if err != nil {
		return fmt.Errorf("%w: proxy: %w", upstream.ErrConnect, err)
	}
	status, ok := connectStatus(answer)
	switch {
	case !ok:
		return fmt.Errorf("%w: the proxy does not speak HTTP", upstream.ErrConnect)
	case status < 200 || status > 299:
		return fmt.Errorf("%w: the proxy answers %d", upstream.ErrConnect, status)
	}
	return nil
}

// readHead reads up to the first empty line, a byte at a time: what follows it is the tunnel's. It is a few hundred
// bytes once per connection.
func readHead(c io.Reader) (string, error) {
	var head []byte
	var b [1]byte
	for len(head) < answerMax {
		if _, err := c.Read(b[:]); err != nil {
			return "", err
		}
		if head = append(head, b[0]); b[0] == '\n' && (strings.HasSuffix(string(head[max(0, len(head)-4):]), "\r\n\r\n") ||
			strings.HasSuffix(string(head[max(0, len(head)-2):]), "\n\n")) {
			return string(head), nil
		}
	}
	return "", fmt.Errorf("an answer of more than %d bytes", answerMax)
}

// connectStatus reads "HTTP/1.x ddd".
func connectStatus(head string) (int, bool) {
	if len(head) < 13 || head[:7] != "HTTP/1." || head[8] != ' ' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(head[9:12]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n >= 100
}
