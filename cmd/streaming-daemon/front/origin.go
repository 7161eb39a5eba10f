package front

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// foreign refuses requests that some other page made in the visitor's browser. Listening on loopback keeps other
// machines out, not other pages: any site open in the same browser can send requests to 127.0.0.1, and though it could
// not read the answers, each would open a stream, and with a backend that costs money, cost money. nil: let it pass.
func (s *Server) foreign(r *http.Request) *refusal {
	if s.addr.IP.IsLoopback() && !loopbackHost(r.Host) {
		// DNS rebinding: a name of the attacker's that now resolves to 127.0.0.1 makes his page same-origin with us.
		return &refusal{http.StatusMisdirectedRequest, "this server answers to localhost and loopback addresses only"}
	}
	if r.URL.Path == "/stream" && !sameOrigin(r) {
		return &refusal{http.StatusForbidden, "streams can be opened from this server's own page only"}
	}
	return nil
}

// sameOrigin reports whether r came from a page of ours or from no page at all (address bar, curl). Browsers send
// Sec-Fetch-Site to loopback and https addresses only (Fetch Metadata, section 2: trustworthy URLs); without it,
// Origin tells: every cross-origin EventSource and fetch() carries one (Fetch standard, 3.1).
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
	default: // cross-site; same-site: another port of localhost is a different program
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host) // "null" has no host
}

// loopbackHost reports whether a Host field names this machine to itself.
func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]") // no port
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") // RFC 6761, section 6.3: never on the network
}
