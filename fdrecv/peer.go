package fdrecv

import (
	"fmt"
	"slices"
	"time"
)

// checkPeer asks the kernel who connected, where that matters. The error wraps ErrDenied.
func (ln *Listener) checkPeer(conn int) error {
	if len(ln.cfg.AllowUIDs) == 0 && len(ln.cfg.AllowGIDs) == 0 {
		return nil
	}
	peer, errno := peerCredentials(conn)
	switch {
	case errno != 0:
		return fmt.Errorf("fdrecv: getsockopt SO_PEERCRED: %w: %w", ErrDenied, errno)
	case slices.Contains(ln.cfg.AllowUIDs, peer.Uid), slices.Contains(ln.cfg.AllowGIDs, peer.Gid):
		return nil
	}
	return fmt.Errorf("fdrecv: user %d, group %d, process %d: %w", peer.Uid, peer.Gid, peer.Pid, ErrDenied)
}

// SetTimeout changes how long a handoff may take, 0: HandoffTimeout; one that is under way keeps its deadline. Any
// goroutine; without effect before Serve and after the end.
func (ln *Listener) SetTimeout(d time.Duration) {
	if d <= 0 {
		d = HandoffTimeout
	}
	ln.mu.Lock()
	l := ln.loop
	ln.mu.Unlock()
	if l != nil {
		_ = l.Post(func() { ln.cfg.Timeout = d }) // ErrClosed: no handoff will come
	}
}
