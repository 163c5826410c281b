package schemas

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrID is returned for an event id that FlowID did not write.
var ErrID = errors.New("not a flow id")

// FlowID names the event at a position of a ring: host/boot/position. Boot
// names the life of the ring, in which no position comes twice.
func FlowID(host, boot string, position uint64) string {
	b := make([]byte, 0, len(host)+len(boot)+22)
	b = append(append(b, host...), '/')
	b = append(append(b, boot...), '/')
	return string(strconv.AppendUint(b, position, 10))
}

// FlowPosition gives the position in an id of FlowID.
func FlowPosition(id string) (uint64, error) {
	position, err := strconv.ParseUint(id[strings.LastIndexByte(id, '/')+1:], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("position of %q: %w", id, ErrID)
	}
	return position, nil
}
