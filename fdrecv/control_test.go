package fdrecv_test

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
)

func rights(control []byte) []int32 {
	var got []int32
	fdrecv.EachRight(control, func(fd int32) { got = append(got, fd) })
	return got
}

// P-17: every descriptor of every control message counts, whatever stands between them.
func TestP17EveryControlMessage(t *testing.T) {
	other := unix.UnixCredentials(&unix.Ucred{Pid: 1, Uid: 2, Gid: 3})
	tests := []struct {
		name    string
		control []byte
		want    []int32
	}{
		{"none", nil, nil},
		{"one", unix.UnixRights(5), []int32{5}},
		{"three in one", unix.UnixRights(5, 6, 7), []int32{5, 6, 7}},
		{"two messages", slices.Concat(unix.UnixRights(5), unix.UnixRights(6, 7)), []int32{5, 6, 7}},
		{"behind credentials", slices.Concat(other, unix.UnixRights(5)), []int32{5}},
		{"credentials alone", other, nil},
		{"cut inside the header", unix.UnixRights(5)[:15], nil},
		{"length beyond the buffer", unix.UnixRights(5, 6)[:20], nil},
		{"without the padding at the end", unix.UnixRights(5)[:20], []int32{5}},
		{"length of zero", make([]byte, 32), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rights(tt.control); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzControl: no bytes make the parser panic or give more descriptors than fit, and where x/sys/unix can read the
// buffer as well, both see the same.
func FuzzControl(f *testing.F) {
	f.Add(unix.UnixRights(5))
	f.Add(unix.UnixRights(5, 6))
	f.Add(slices.Concat(unix.UnixCredentials(&unix.Ucred{Pid: 1}), unix.UnixRights(5)))
	f.Add(unix.UnixRights(1, 2, 3)[:25])
	f.Fuzz(func(t *testing.T, control []byte) {
		control = control[:min(len(control), fdrecv.ControlRoom)]
		got := rights(control)
		if len(got) > fdrecv.FDsMax {
			t.Fatalf("%d descriptors, at most %d fit", len(got), fdrecv.FDsMax)
		}
		messages, err := unix.ParseSocketControlMessage(control)
		if err != nil {
			return
		}
		var want []int32
		for i := range messages {
			if len(messages[i].Data)%4 != 0 {
				return // x/sys/unix v0.49.0 reads past the end of such a message
			}
			fds, err := unix.ParseUnixRights(&messages[i])
			if err != nil {
				continue
			}
			for _, fd := range fds {
				if int32(fd) >= 0 {
					want = append(want, int32(fd))
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v, x/sys/unix reads %v", got, want)
		}
	})
}
