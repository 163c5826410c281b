package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

const head = `# Benchmarks

Written by ` + "`make bench`" + ` (scripts/bench.sh, as root; it needs nft) and not by hand. Ratios are of numbers of
one run, taken in turns; times are this machine's. internal/bench/connect says how the cost of the gate is measured.

`

const goalNotes = `
How to read it:
- The ratios come with noise: the column "noise" below is a second process without anything, against the first. A
  ratio says no more than it differs from that.
- The gate decides at connect and at sends without a connection. A send on a connection meets the program for packets
  alone, which sees that it has been decided. A socket meets one when it is made; the one for packet sockets, where the
  kernel loads it, is asked for every process of the host, and so is in the time without anything as well.
- "Per core" is events by the CPU time of writer, client and embedded server together, from decoded records to the
  acknowledgement by a stream in a file.
- "Policy change → live" begins with the append, which waits for the disk, and ends when the kernel itself judges by
  the new revision: real server, follower, compiler and gate.
- "Start" begins with an empty kernel and a snapshot on disk, and ends with the gate attached and every container's
  policy in force. Docker is an engine in memory that answers at once; the policy log is not read in it. Memory is
  that of the process, test included, right after; the kernel's tables come on top (about 110 bytes a prefix).
`

// sizes are those of the policies that the gate is measured with.
var sizes = []string{"10", "1000", "100000"}

// costs is the table of the gate beside nothing and nftables.
func costs(b *strings.Builder, all results) {
	b.WriteString("\n## Cost beside nothing and beside nftables\n\n" +
		"Time without anything, and the others' as a ratio to it: medians of interleaved rounds. `nftables` is a set of the\n" +
		"same prefixes in the output hook, `nftables+ct` has `ct state established accept` before it.\n\n" +
		"| operation | prefixes | off, ns | gate | noise | nftables | nftables+ct |\n|---|---|---|---|---|---|---|\n")
	for _, op := range []string{"connect/known", "connect/new", "udp/known", "udp/new", "send", "bulk", "socket/udp", "socket/tcp"} {
		for _, n := range sizes {
			u, ok := all["Cost/"+op+"/"+n]
			if !ok {
				continue
			}
			fmt.Fprintf(b, "| %s | %s | %.0f | %.3f | %.3f | %.3f | %.3f |\n",
				op, n, u["ns/op"], u["gate"], u["noise"], u["nftables"], u["nftables+ct"])
		}
	}
}

// rest is everything else that was printed.
func rest(b *strings.Builder, all results) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, "Cost/") {
			continue
		}
		var parts []string
		for _, unit := range slices.Sorted(maps.Keys(all[name])) {
			parts = append(parts, strconv.FormatFloat(all[name][unit], 'g', 6, 64)+" "+unit)
		}
		fmt.Fprintf(b, "| %s | %s |\n", name, strings.Join(parts, ", "))
	}
}

type machine struct {
	commit, cpu, memory, kernel, golang, load string
	cpus                                      int
}

func thisMachine() machine {
	m := machine{commit: "unknown", cpus: runtime.NumCPU(), golang: runtime.Version()}
	m.cpu = field("/proc/cpuinfo", "model name")
	if kib, err := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB")); err == nil {
		m.memory = fmt.Sprintf("%.1f GiB", float64(kib)/(1<<20))
	}
	m.kernel = strings.TrimSpace(text("/proc/sys/kernel/osrelease"))
	m.load, _, _ = strings.Cut(text("/proc/loadavg"), " ")
	return m
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return string(b)
}

// field is the first value of that name in a file of `name: value` lines.
func field(path, name string) string {
	for line := range strings.Lines(text(path)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
