package main

import (
	"fmt"
	"strings"
)

const linkNotes = `
## What the walls cost on a link

Rates over a pair of devices between two network namespaces, as a container sends, and the others' as a ratio to that
without anything: below 1 is slower. Datagrams have 64 bytes, by ` + "`sendto`" + ` or by a connected socket; the stream is an
established one of TCP that is written in 16 KiB and read by another CPU.

The standing wall for the packets of sockets is the program on ` + "`cgroup_skb/egress`" + ` (` + "`gate`" + `, with the hooks of connect and
sends): it sees every kind of network that a container may have. The wall on the host's side of a container's link
(` + "`gate+link`" + `, with both) is for what no hook of sockets sees: frames of packet sockets, what the container's kernel
sends or forwards by itself, processes in its network but not in its cgroup. Here they are measured side by side.

| what | prefixes | without | gate | gate+link | noise |
|---|---|---|---|---|---|
`

// carried are the kinds of turns over a link, and how much of its unit an operation
// carries.
var carried = []struct {
	op, what, unit string
	each           float64
}{
	{"link/sendto", "datagrams, not connected", "/s", 1},
	{"link/udp", "datagrams, connected", "/s", 1},
	{"link/stream", "established TCP stream", " MiB/s", 16. / 1024},
}

// links is the table of the walls on a link.
func links(b *strings.Builder, all results) {
	b.WriteString(linkNotes)
	for _, c := range carried {
		for _, n := range sizes {
			u, ok := all["Cost/"+c.op+"/"+n]
			if !ok {
				continue
			}
			fmt.Fprintf(b, "| %s | %s | %s%s | %.3f | %.3f | %.3f |\n", c.what, n,
				thousands(c.each*1e9/u["ns/op"]), c.unit, 1/u["gate"], 1/u["gate+link"], 1/u["noise"])
		}
	}
}
