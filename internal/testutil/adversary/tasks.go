package adversary

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// tasks send from another process, namespace or cgroup.
func tasks() []Technique {
	cloned := func(name, how, verb, needs string, attr func(*syscall.SysProcAttr) error) []Technique {
		return both(Technique{Name: name, How: how, Needs: needs}, func(a *attempt, family string) error {
			return a.child(verb, family, attr)
		})
	}
	id := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	gid := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	user := func(flags uintptr) func(*syscall.SysProcAttr) error {
		return func(p *syscall.SysProcAttr) error {
			p.Cloneflags, p.UidMappings, p.GidMappings = unix.CLONE_NEWUSER|flags, id, gid
			return nil
		}
	}
	return many(
		cloned("process child", "a process of its own, and a session", "send", "", func(p *syscall.SysProcAttr) error {
			p.Setsid = true
			return nil
		}),
		cloned("process into cgroup", "clone3 with CLONE_INTO_CGROUP into the hierarchy's root", "send", "a cgroup that it may write to", func(p *syscall.SysProcAttr) error {
			dir, err := os.Open("/sys/fs/cgroup/unified")
			if err != nil {
				dir, err = os.Open("/sys/fs/cgroup")
			}
			if err != nil {
				return err
			}
			p.UseCgroupFD, p.CgroupFD = true, int(dir.Fd())
			return nil
		}),
		cloned("user namespace", "CLONE_NEWUSER", "send", "user namespaces", user(0)),
		cloned("user namespace raw", "CLONE_NEWUSER, and a raw socket with its capabilities", "raw", "a kernel that lets it", user(0)),
		cloned("network namespace", "CLONE_NEWUSER and CLONE_NEWNET", "send", "a way out of an empty network", user(unix.CLONE_NEWNET)),
		cloned("nested cgroup", "CLONE_NEWUSER, CLONE_NEWCGROUP, cgroupfs mounted, moved into a cgroup of its own", "nest", "user namespaces, and root", user(unix.CLONE_NEWNS|unix.CLONE_NEWCGROUP)),
		cloned("outer cgroup", "cgroupfs mounted in a user namespace, moved up", "escape", "a kernel that lets it", user(unix.CLONE_NEWNS)),
		[]Technique{
			{Name: "cgroup write", How: "moves itself by the cgroupfs that the container sees, then sends", Needs: "a cgroup that it may write to", Phase: PhaseOwn, run: func(a *attempt) error {
				if err := moveUp("/sys/fs/cgroup"); err != nil {
					return err
				}
				return a.send(message{to: a.to4()})
			}},
			{Name: "setns", How: "into the network of process 1", Needs: "processes of others", Phase: PhaseOwn, run: func(a *attempt) error {
				fd, err := unix.Open("/proc/1/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return step("open", err)
				}
				if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
					return step("setns", err)
				}
				return a.send(message{to: a.to4()})
			}},
		})
}

// child runs the verb in a new process and reports its error.
func (a *attempt) child(verb, family string, attr func(*syscall.SysProcAttr) error) error {
	c := exec.Command("/proc/self/exe", "child", verb, a.to(family).String(), a.Text())
	c.SysProcAttr = &syscall.SysProcAttr{}
	if err := attr(c.SysProcAttr); err != nil {
		return err
	}
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		return step("clone", err)
	}
	_ = c.Wait()
	var at string
	var no int
	if n, _ := fmt.Sscanf(out.String(), "%q %d", &at, &no); n == 2 && no != 0 {
		return step(at, unix.Errno(no))
	}
	if out.Len() == 0 {
		return nil
	}
	return errors.New(out.String())
}

// child is the other side; it writes nothing when all went well.
func child(args []string) error {
	if len(args) != 3 {
		return errors.New("child: want a verb, an address and a text")
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	a := &attempt{text: []byte(args[2])}
	if err = childDo(a, args[0], to); err == nil {
		return nil
	}
	var s *stepError
	var no unix.Errno
	if errors.As(err, &s) && errors.As(err, &no) {
		fmt.Printf("%q %d", s.step, int(no))
		return nil
	}
	fmt.Print(err)
	return nil
}

func childDo(a *attempt, verb string, to netip.AddrPort) error {
	switch verb {
	case "raw":
		return a.send(message{kind: unix.SOCK_RAW, proto: protoExperiment, to: netip.AddrPortFrom(to.Addr(), 0)})
	case "nest", "escape":
		dir, err := mountCgroups()
		if err != nil {
			return err
		}
		if verb == "escape" {
			err = moveUp(dir)
		} else {
			err = moveDown(dir)
		}
		if err != nil {
			return err
		}
	}
	return a.send(message{to: to})
}

func mountCgroups() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "egw")
	if err != nil {
		dir = "/egw" // the image has no /tmp
	}
	return dir, step("mount", unix.Mount("none", dir, "cgroup2", 0, ""))
}

func moveDown(dir string) error {
	inner := filepath.Join(dir, fmt.Sprintf("egw-nested-%d", os.Getpid()))
	if err := os.Mkdir(inner, 0o755); err != nil {
		return step("mkdir", err)
	}
	return move(inner)
}

// moveUp tries the root, and whatever the container sees beside itself.
func moveUp(dir string) error {
	err := move(dir)
	for _, sub := range []string{"unified", "..", "unified/docker", "docker", "unified/system.slice", "system.slice", "init.scope"} {
		if err == nil {
			return nil
		}
		if e := move(filepath.Join(dir, sub)); e == nil || !errors.Is(e, unix.ENOENT) {
			err = e
		}
	}
	return err
}

func move(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, "cgroup.procs"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return step("open cgroup.procs", err)
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("0"))
	return step("write cgroup.procs", err)
}
