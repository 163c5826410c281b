package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// loopbackUp is for a new network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// firewall puts the prefixes into a set that the output hook asks.
func firewall(kind string, n int) error {
	if kind == "" {
		return nil
	}
	var s strings.Builder
	s.WriteString("table ip bench {\nset allowed { type ipv4_addr; flags interval; elements = {\n")
	for _, p := range prefixesOf(n) {
		s.WriteString(p.String() + ",\n")
	}
	s.WriteString("}\n}\nchain out { type filter hook output priority 0; policy accept;\n")
	if kind == "conntrack" {
		s.WriteString("ct state established,related accept\n")
	}
	s.WriteString("ip daddr @allowed accept\n}\n}\n")
	c := exec.Command("nft", "-f", "-")
	c.Stdin, c.Stderr = strings.NewReader(s.String()), os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	return nil
}
