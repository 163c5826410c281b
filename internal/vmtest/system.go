package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil/build"
)

const (
	// SystemDir is where the system on the disk finds what came along.
	SystemDir = "/opt/vmtest"
	// BuiltDir has there what the tests of e2e would compile.
	BuiltDir = "built"
	// ForDisk is the directory of the initramfs that is copied to the disk.
	ForDisk = "for-disk"
)

// boots are what runs in the system, one a boot: its own tests, and at last the
// adversary and every placement, against an engine of the tests' own.
var boots = []Program{
	{Name: "boot-1", Path: SystemDir + "/test", Dir: SystemDir, Args: testArgs("^TestFirst")},
	{Name: "boot-2", Path: SystemDir + "/test", Dir: SystemDir, Args: testArgs("^TestSecond")},
	{Name: "e2e", Path: SystemDir + "/e2e/test", Dir: SystemDir + "/e2e", Args: testArgs("^TestAdversary$")},
	{Name: "modes", Path: SystemDir + "/e2e/test", Dir: SystemDir + "/e2e", Args: testArgs("^TestModes")},
}

// built are the packages of the programs that the tests of e2e would compile.
var built = []string{"cmd/egw", "cmd/egw-enforcer", "internal/testutil/probe/cmd", "internal/testutil/adversary/cmd"}

// systemModules are what it takes to mount the disk.
var systemModules = []string{"virtio_pci", "virtio_blk", "ext4"}

const bootUnit = `[Unit]
After=docker.service egw-enforcer.service
[Service]
ExecStart=` + SystemDir + `/guest boot
`

// sinkUnit makes the network that containers reach: two addresses that answer,
// and a rule that counts what arrives at the second.
const sinkUnit = `[Unit]
Before=docker.service
[Service]
ExecStartPre=/bin/sh -ec 'ip link add egwnet type dummy; ip link set egwnet up; ip address add 203.0.113.10/24 dev egwnet; ip address add 203.0.113.20/24 dev egwnet; iptables -w -I INPUT -d 203.0.113.20'
ExecStart=` + SystemDir + `/probe serve -family 4 -port 443
`

// Part is which boots of a system to run, and on which disk.
type Part struct {
	// Boots are those whose names match; nil is all.
	Boots *regexp.Regexp
	// Disk is a file that is kept, and made when it is not there. Empty is a
	// fresh disk that is thrown away.
	Disk string
}

// boots are those picked.
func (p Part) boots() (some []Program) {
	for _, b := range boots {
		if p.Boots == nil || p.Boots.MatchString(b.Name) {
			some = append(some, b)
		}
	}
	return some
}

// drive is qemu's argument of the disk.
func (p Part) drive(ctx context.Context, k Kernel) (string, error) {
	const format = "if=virtio,format=raw,cache=unsafe,"
	image, err := Image(ctx, k)
	if err != nil || p.Disk == "" {
		return format + "snapshot=on,file=" + image, err
	}
	if _, err := os.Stat(p.Disk); errors.Is(err, os.ErrNotExist) {
		return format + "file=" + p.Disk, command(ctx, "", "cp", "--sparse=always", image, p.Disk)
	}
	return format + "file=" + p.Disk, err
}

// RunSystem boots a Debian system with systemd and Docker from a disk, again
// and again, and runs the tests of each boot.
func RunSystem(ctx context.Context, k Kernel, s Sources, p Part, out io.Writer) (*Report, error) {
	drive, err := p.drive(ctx, k)
	if err != nil {
		return nil, err
	}
	r := &Report{Selected: p.Boots != nil}
	fill := func(ctx context.Context, file string) error { return writeSystemInitramfs(ctx, file, k, s, p) }
	return r, r.run(ctx, k, fill, out, "-drive", drive)
}

func writeSystemInitramfs(ctx context.Context, to string, k Kernel, s Sources, p Part) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	a := newArchive(f)
	modules, err := addModules(ctx, a, k, systemModules)
	if err != nil {
		return err
	}
	a.plan(PlanFile, Plan{Modules: modules, Disk: "/dev/vda"})
	a.copy("init", 0o755, s.Guest)
	if err := addSystem(a, s, p); err != nil {
		return err
	}
	return a.close()
}

// addSystem adds what is copied to the disk.
func addSystem(a *archive, s Sources, p Part) error {
	manual, err := os.ReadFile(filepath.Join(s.Root, "docs", "OPERATIONS.md"))
	if err != nil {
		return err
	}
	install, err := codeBlock(string(manual), "## Install")
	if err != nil {
		return fmt.Errorf("docs/OPERATIONS.md: %w", err)
	}
	units, at := path.Join(ForDisk, "etc/systemd/system"), path.Join(ForDisk, SystemDir)
	a.file(path.Join(units, "vmtest.service"), 0o644, []byte(bootUnit))
	a.file(path.Join(units, "vmtest-sink.service"), 0o644, []byte(sinkUnit))
	a.file(path.Join(at, "install.sh"), 0o644, []byte(install))
	a.copy(path.Join(at, "guest"), 0o755, s.Guest)
	a.copy(path.Join(at, "probe"), 0o755, s.path(build.Name("internal/testutil/probe/cmd")))
	a.copy(path.Join(at, "test"), 0o755, s.path("system.test"))
	a.tree(path.Join(at, "src/bin"), s.path("bin"))
	a.tree(path.Join(at, "src/deploy"), filepath.Join(s.Root, "deploy"))
	a.copy(path.Join(at, "e2e/test"), 0o755, s.path("e2e.test"))
	for _, pkg := range built {
		a.copy(path.Join(at, BuiltDir, build.Name(pkg)), 0o755, s.path(build.Name(pkg)))
	}
	a.plan(path.Join(at, PlanFile), Plan{Programs: p.boots(), Made: time.Now()})
	return nil
}

// codeBlock is the first one below a heading.
func codeBlock(text, heading string) (string, error) {
	_, below, found := strings.Cut(text, "\n"+heading+"\n")
	_, block, opened := strings.Cut(below, "\n```\n")
	block, _, closed := strings.Cut(block, "\n```\n")
	if !found || !opened || !closed {
		return "", fmt.Errorf("no code below %q", heading)
	}
	return block + "\n", nil
}
