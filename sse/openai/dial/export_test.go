package dial

import "io"

// ReadAnswer reads a proxy's answer to a CONNECT.
func ReadAnswer(r io.Reader) (status int, ok bool) {
	head, err := readHead(r)
	if err != nil {
		return 0, false
	}
	return connectStatus(head)
}
