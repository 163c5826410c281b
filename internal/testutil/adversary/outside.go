package adversary

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What the program asks of its accomplice outside the container. A request is
// one line of JSON on a new connection, and so is the answer, when it is done;
// a descriptor comes with it where one was wanted.
const (
	// WantStart: answer when the program shall begin.
	WantStart = "start"
	// WantPause: answer when the program shall go on.
	WantPause = "pause"
	// WantSocket hands over a socket that was made outside: Kind and Proto,
	// Connected to To unless that is zero.
	WantSocket = "socket"
	// WantDatagram and WantStream come to the container's own address.
	WantDatagram = "datagram"
	WantStream   = "stream"
	// WantArrival: answer when a frame with the mark of the technique Number was
	// seen, or does not come.
	WantArrival = "arrival"
)

// Request is one of those.
type Request struct {
	Want   string         `json:"want"`
	Domain int            `json:"domain,omitempty"`
	Kind   int            `json:"kind,omitempty"`
	Proto  int            `json:"proto,omitempty"`
	To     netip.AddrPort `json:"to"`
	Number int            `json:"number,omitempty"`
}

// Answer ends a request.
type Answer struct {
	Error string `json:"error,omitempty"`
}

// ask waits for the answer. With a descriptor, use gets it.
func ask(path string, r Request, use func(fd int) error) (a Answer, err error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return a, step("ask outside", err)
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(r); err != nil {
		return a, step("ask outside", err)
	}
	text, oob := make([]byte, 4096), make([]byte, 64)
	n, oobn, _, _, err := c.ReadMsgUnix(text, oob)
	if err != nil {
		return a, step("ask outside", err)
	}
	if err := json.Unmarshal(text[:n], &a); err != nil {
		return a, step("ask outside", err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("outside: %s", a.Error)
	}
	if use == nil {
		return a, nil
	}
	fd, err := descriptor(oob[:oobn])
	if err != nil {
		return a, err
	}
	defer unix.Close(fd)
	return a, use(fd)
}

func descriptor(oob []byte) (int, error) {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(all) != 1 {
		return 0, errors.New("outside: no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&all[0])
	if err != nil || len(fds) != 1 {
		return 0, errors.New("outside: no descriptor came")
	}
	return fds[0], nil
}
