package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"streaming-daemon-go/fdrecv"
)

// settle makes the list of listeners and looks at the settings together.
func (c *Config) settle() (faults Faults) {
	if len(c.own) > 0 {
		// Whoever lists listeners does not expect two more.
		for name, at := range map[string]*string{"socket": &c.Socket, "seqpacket-socket": &c.SeqpacketSocket} {
			if _, set := c.sources[name]; !set {
				*at = ""
				c.sources[name] = source{"default, as the file lists listeners", "-" + name}
			}
		}
	}
	fault := func(name string) func(error) {
		return func(err error) { faults.add("", "%s: %v", c.nameOf(name), err) }
	}
	uid := lookup(c.SocketOwner, userID, fault("socket-owner"))
	gid := lookup(c.SocketGroup, groupID, fault("socket-group"))
	c.Listeners = nil
	for _, s := range []struct {
		name, path string
		kind       fdrecv.Kind
	}{
		{"socket", c.Socket, fdrecv.KindStream},
		{"seqpacket-socket", c.SeqpacketSocket, fdrecv.KindSeqpacket},
		{"fdpass-socket", c.FDPassSocket, fdrecv.KindFDPass},
	} {
		if s.path != "" {
			c.Listeners = append(c.Listeners, Listener{Name: c.nameOf(s.name), Path: s.path, Kind: s.kind, Mode: c.SocketMode,
				UID: uid, GID: gid, Backend: c.Backend})
		}
	}
	for i := range c.own {
		c.Listeners = append(c.Listeners, c.own[i].resolve(c, &faults))
	}
	c.checkTogether(&faults)
	c.checkOpenAI(&faults)
	return faults
}

func (c *Config) checkTogether(faults *Faults) {
	if len(c.Listeners) == 0 && len(*faults) == 0 {
		faults.add("", "-socket, -seqpacket-socket and -fdpass-socket are all off, and no file lists listeners: nothing could be handed over")
	}
	withPayload := false
	for i, a := range c.Listeners {
		withPayload = withPayload || a.Kind != fdrecv.KindFDPass
		for _, b := range c.Listeners[i+1:] {
			if filepath.Clean(a.Path) == filepath.Clean(b.Path) {
				faults.add("", "%s and %s have the same path %s: each needs its own", a.Name, b.Name, quoteOdd(a.Path))
			}
		}
	}
	if c.Front != "" && !withPayload {
		faults.add("", "-front needs -seqpacket-socket or -socket: mod_proxy_fdpass's kind has no payload")
	}
}

// checkAddresses finds the paths and addresses that cannot work, without opening them.
func (c *Config) checkAddresses() (faults Faults) {
	for _, l := range c.Listeners {
		if err := (fdrecv.ListenConfig{Path: l.Path, Kind: l.Kind, Mode: l.Mode}).Check(); err != nil {
			faults.add("", "%s: %s", l.Name, strings.TrimPrefix(err.Error(), "fdrecv: "))
		}
	}
	for _, a := range []struct{ name, addr string }{{"metrics-addr", c.MetricsAddr}, {"pprof-addr", c.PprofAddr}, {"front", c.Front}} {
		if a.addr == "" {
			continue
		}
		_, port, err := net.SplitHostPort(a.addr)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			faults.add("", "%s", mustBe(c.nameOf(a.name), a.addr, fmt.Errorf("host:port, such as 127.0.0.1:9090")))
		}
	}
	return faults
}
