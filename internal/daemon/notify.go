package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
)

// Ready tells systemd, once the channel is closed, that the service is at its
// work, so that what is ordered after it starts no sooner. It returns at the
// end of the context too, and does nothing where systemd does not ask.
func Ready(ctx context.Context, when <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-when:
	}
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	// An address that begins with @ is abstract, here as for systemd.
	c, err := net.Dial("unixgram", address)
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("READY=1")); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
