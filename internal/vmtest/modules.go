package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Modules are what the tests use of a kernel.
var Modules = []string{
	"veth", "bridge", "dummy", "macvlan", "ipvlan", "tun", // links
	"nfnetlink", "xfrm_user", // netlink families
	"sctp", "l2tp_ip", "l2tp_ip6", "vsock", "vsock_loopback", // protocols
	"inet_diag", "tcp_diag", "udp_diag", "raw_diag", "sctp_diag", "unix_diag", // listing, ending sockets
	"sch_ingress", "cls_bpf", // programs at links
}

// moduleFiles are the files of the modules and of what they need, in the order
// of loading. What is built in has none.
func moduleFiles(ctx context.Context, k Kernel, names []string) ([]string, error) {
	args := append([]string{"-d", k.dir, "-S", k.Release, "--show-depends", "-a"}, names...)
	out, err := exec.CommandContext(ctx, "modprobe", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("modprobe %s: %w", strings.Join(args, " "), err)
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "insmod" || slices.Contains(files, words[1]) {
			continue
		}
		files = append(files, words[1])
	}
	return files, nil
}

// moduleName is the file's, without its endings.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return name
}

// readModule reads a module, decompressed.
func readModule(ctx context.Context, file string) ([]byte, error) {
	if filepath.Ext(file) != ".xz" {
		return os.ReadFile(file)
	}
	data, err := exec.CommandContext(ctx, "xz", "-dc", file).Output()
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", file, err)
	}
	return data, nil
}
