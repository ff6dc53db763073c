package child

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

func TestRightsAlone(t *testing.T) { testAlone(t, rightsCases) }

const (
	capChown, capSetgid, capSetuid, capNetRaw = 1 << 0, 1 << 6, 1 << 7, 1 << 13
)

var rightsCases = []alone{
	{of: step.NoNewPrivs{}, steps: one(step.NoNewPrivs{}), sh: "grep NoNewPrivs /proc/self/status", want: "NoNewPrivs:\t1"},
	{of: step.DropBounding{}, steps: one(step.DropBounding{Drop: capChown | capNetRaw}), look: func(b *bench) {
		b.eq(b.status("CapBnd"), fmt.Sprintf("%016x", own(b, "CapBnd")&^(capChown|capNetRaw)))
	}},
	{of: step.DropBounding{}, what: "of one that there is not", steps: one(step.DropBounding{Drop: 1 << 63}), call: "prctl", errno: unix.EINVAL},
	{of: step.Capabilities{}, steps: one(step.Capabilities{Effective: capChown, Permitted: capChown | capNetRaw, Inheritable: capNetRaw, Ambient: capNetRaw}),
		look: func(b *bench) {
			for name, want := range map[string]uint64{"CapEff": capChown, "CapPrm": capChown | capNetRaw, "CapInh": capNetRaw, "CapAmb": capNetRaw} {
				b.eq(name+b.status(name), fmt.Sprintf("%s%016x", name, want))
			}
		}},
	{of: step.Capabilities{}, what: "raised from nothing", steps: one(step.Capabilities{Ambient: capChown}), call: "prctl", errno: unix.EPERM},
	{of: step.Capabilities{}, what: "that were given up", steps: func(*bench) []step.Step {
		return []step.Step{step.Capabilities{}, step.Capabilities{Permitted: capChown}}
	}, call: "capset", errno: unix.EPERM},
	{of: step.Credentials{}, steps: one(step.Credentials{UID: 1000, GID: 100, Groups: []uint32{4, 5}}), look: func(b *bench) {
		b.eq(b.status("Uid")+", "+b.status("Gid")+", "+b.status("Groups"), "1000 1000 1000 1000, 100 100 100 100, 4 5")
		b.eq(b.status("CapPrm"), "0000000000000000")
	}},
	{of: step.Credentials{}, what: "and capabilities", steps: one(step.Credentials{UID: 1000, KeepCaps: true}), look: func(b *bench) {
		b.eq(b.status("Uid")+", "+b.status("Groups"), "1000 1000 1000 1000, ")
		b.eq(b.status("CapPrm"), fmt.Sprintf("%016x", own(b, "CapPrm")))
	}},
	{of: step.Credentials{}, what: "but groups", steps: func(*bench) []step.Step {
		return []step.Step{step.Credentials{Groups: []uint32{7}}, step.Credentials{UID: 1000, GroupsStay: true}}
	}, look: func(b *bench) { b.eq(b.status("Uid")+", "+b.status("Groups"), "1000 1000 1000 1000, 7") }},
	{of: step.Credentials{}, what: "of nobody that is mapped", clone: unix.CLONE_NEWUSER,
		steps: one(step.Credentials{UID: 1000, NoSetgroups: true}), call: "setresgid", errno: unix.EINVAL},
	{of: step.Credentials{}, what: "with groups that may not be set", clone: unix.CLONE_NEWUSER, steps: one(step.Credentials{}), call: "setgroups", errno: unix.EPERM},
	{of: step.Credentials{}, what: "with groups that may stay", clone: unix.CLONE_NEWUSER, steps: one(step.Credentials{Unsure: true}), call: "setresgid", errno: unix.EINVAL},
}

// own is a set of capabilities of this process.
func own(b *bench, name string) uint64 {
	b.Helper()
	s, err := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(s), name+":\t")
	v, perr := strconv.ParseUint(rest[:16], 16, 64)
	if err != nil || perr != nil {
		b.Fatal(err, perr)
	}
	return v
}

func TestNamespaceStepsAlone(t *testing.T) { testAlone(t, enterCases) }

// newNamespace is a look: another one of this kind than ours.
func newNamespace(kind string) func(*bench) {
	return func(b *bench) {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if theirs := b.proc("ns/" + kind); err != nil || theirs == ours || !strings.HasPrefix(theirs, kind+":") {
			b.Errorf("%s here, %s there, %v", ours, theirs, err)
		}
	}
}

// holder is a process with a host name of its own.
func holder(b *bench) {
	plan := &step.Plan{CloneFlags: unix.CLONE_NEWUTS}
	plan.Add(step.Hostname{Name: "holder"}, step.Tell{FD: step.From(ErrFD), That: "named"}, step.Pause{})
	b.start(plan)
	if reached, err := b.p.Reached(); !reached {
		b.Fatal(err)
	}
}

// lonely is a directory that only user 1000 may enter, and a process that is he no earlier than it tries again.
func lonely(b *bench) (path string, before []step.Step) {
	b.write("lonely", "")
	path = b.dir + "/lonely"
	if err := os.Chmod(path, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.Chown(path, 1000, 1000); err != nil {
		b.Fatal(err)
	}
	caps := step.Capabilities{Effective: capSetuid | capSetgid, Permitted: capSetuid | capSetgid}
	return path, []step.Step{caps}
}

var enterCases = []alone{
	{of: step.Unshare{}, steps: one(step.Unshare{Flags: unix.CLONE_NEWUTS}), look: newNamespace("uts")},
	{of: step.Unshare{}, what: "of what there is not", steps: one(step.Unshare{Flags: 1}), call: "unshare", errno: unix.EINVAL},
	{of: step.SetNS{}, what: "by a file", given: func(b *bench) { holder(b); b.fd = b.open(fmt.Sprintf("/proc/%d/ns/uts", b.p.Pid), unix.O_CLOEXEC) },
		steps: func(b *bench) []step.Step {
			return []step.Step{step.SetNS{FD: step.Int(b.fd), Flags: unix.CLONE_NEWUTS, Of: "holder"}}
		},
		sh: "cat /proc/sys/kernel/hostname", want: "holder"},
	{of: step.SetNS{}, what: "of a process", given: func(b *bench) { holder(b); b.fd = int(b.p.Pidfd.Fd()) },
		steps: func(b *bench) []step.Step {
			return []step.Step{step.SetNS{FD: step.Int(b.fd), Flags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC, Of: "holder"}}
		}, sh: "cat /proc/sys/kernel/hostname", want: "holder"},
	{of: step.SetNS{}, what: "of another kind", given: func(b *bench) { b.fd = b.open("/proc/self/ns/uts", unix.O_CLOEXEC) },
		steps: func(b *bench) []step.Step {
			return []step.Step{step.SetNS{FD: step.Int(b.fd), Flags: unix.CLONE_NEWNET}}
		}, call: "setns", errno: unix.EINVAL},
	{of: step.Hostname{}, clone: unix.CLONE_NEWUTS, steps: one(step.Hostname{Name: "box"}), sh: "cat /proc/sys/kernel/hostname", want: "box"},
	{of: step.Hostname{}, what: "too long", clone: unix.CLONE_NEWUTS, steps: one(step.Hostname{Name: strings.Repeat("x", 65)}), call: "sethostname", errno: unix.EINVAL},
	{of: step.Domainname{}, clone: unix.CLONE_NEWUTS, steps: one(step.Domainname{Name: "example"}), sh: "cat /proc/sys/kernel/domainname", want: "example"},
	{of: step.Domainname{}, what: "without the right", clone: unix.CLONE_NEWUTS, steps: func(*bench) []step.Step {
		return []step.Step{step.Capabilities{}, step.Domainname{Name: "x"}}
	}, call: "setdomainname", errno: unix.EPERM},
	{of: step.Loopback{}, clone: unix.CLONE_NEWNET, steps: one(step.Loopback{}), sh: "busybox ping -c 1 -W 2 127.0.0.1 | grep -c 'bytes from'", want: "1"},
	{of: step.Loopback{}, what: "without the right", clone: unix.CLONE_NEWNET, steps: func(*bench) []step.Step {
		return []step.Step{step.Capabilities{}, step.Loopback{}}
	}, call: "ioctl", errno: unix.EPERM},
	{of: step.TimeNamespace{}, needs: noTime, steps: one(step.TimeNamespace{Offsets: "boottime 1000000 0\n"}), look: newNamespace("time")},
	{of: step.TimeNamespace{}, what: "its clock", needs: noTime, steps: one(step.TimeNamespace{Offsets: "boottime 1000000000 0\n"}),
		sh: "cut -d. -f1 /proc/uptime | grep -c '^1[0-9]\\{9\\}$'", want: "1"},
	{of: step.TimeNamespace{}, what: "of no clock", needs: noTime, steps: one(step.TimeNamespace{Offsets: "nosuch 1 0\n"}), call: "write", errno: unix.EINVAL},
	{of: step.Chdir{}, steps: func(b *bench) []step.Step { return []step.Step{step.Chdir{Path: b.dir}} }, look: func(b *bench) { b.eq(b.proc("cwd"), b.dir) }},
	{of: step.Chdir{}, what: "through a descriptor", given: func(b *bench) { b.fd = b.open(b.dir, unix.O_RDONLY) }, // CVE-2024-21626
		steps: func(b *bench) []step.Step { return []step.Step{step.Chdir{Path: fmt.Sprint("/proc/self/fd/", b.fd)}} }, call: "openat2", errno: unix.ELOOP},
	{of: step.Chdir{}, what: "to none", steps: one(step.Chdir{Path: "/no/such"}), call: "openat2", errno: unix.ENOENT},
	{of: step.ChdirAgain{}, steps: func(b *bench) []step.Step {
		path, before := lonely(b)
		cwd := &step.Result{Name: "cwd", None: -1}
		return append(before, step.Chdir{Path: path, Cwd: cwd}, step.Credentials{UID: 1000, GID: 1000}, step.ChdirAgain{Path: path, Cwd: cwd})
	}, look: func(b *bench) { b.eq(b.proc("cwd"), b.dir+"/lonely") }},
	{of: step.ChdirAgain{}, what: "not needed", steps: func(b *bench) []step.Step {
		cwd := &step.Result{Name: "cwd", None: -1}
		return []step.Step{step.Chdir{Path: b.dir, Cwd: cwd}, step.ChdirAgain{Path: "/no/such", Cwd: cwd}}
	}, look: func(b *bench) { b.eq(b.proc("cwd"), b.dir) }},
	{of: step.ChdirAgain{}, what: "in vain", steps: func(b *bench) []step.Step {
		path, before := lonely(b)
		cwd := &step.Result{Name: "cwd", None: -1}
		return append(before, step.Chdir{Path: path, Cwd: cwd}, step.ChdirAgain{Path: path, Cwd: cwd})
	}, call: "fchdir", errno: unix.EACCES},
	{of: step.Chroot{}, given: files("in", "x"), steps: func(b *bench) []step.Step { return b.opening(step.Chroot{Root: b.root}) }, look: func(b *bench) {
		b.eq(b.proc("root")+" "+b.proc("cwd"), b.dir+" "+b.dir)
		b.eq(b.list("root"), "in")
	}},
	{of: step.Chroot{}, what: "without the right", steps: func(b *bench) []step.Step {
		return b.opening(step.Capabilities{}, step.Chroot{Root: b.root})
	}, call: "chroot", errno: unix.EPERM},
	{of: step.PivotRoot{}, clone: unix.CLONE_NEWNS, given: files("in", "x"),
		steps: func(b *bench) []step.Step { s := b.mounting(); return append(s, step.PivotRoot{Root: b.root}) },
		look: func(b *bench) {
			b.eq(b.list("root"), "in")
			if mounts := b.proc("mountinfo"); strings.Count(mounts, "\n") != 1 || strings.Fields(mounts)[4] != "/" {
				b.Errorf("mounts of the host are left:\n%s", mounts)
			}
			b.eq(b.proc("cwd"), "/")
		}},
	{of: step.PivotRoot{}, what: "to what is no mount", clone: unix.CLONE_NEWNS, given: files("d", ""), steps: func(b *bench) []step.Step {
		d := &step.Result{Name: "dir"}
		s := b.mounting()
		return append(s, step.OpenDir{Root: b.root, Path: "/d", Dir: d}, step.PivotRoot{Root: d})
	}, call: "pivot_root", errno: unix.EINVAL},
	{of: step.MoveRoot{}, clone: unix.CLONE_NEWNS, given: files("in", "x", "let", ""), steps: func(b *bench) []step.Step {
		s := b.mounting()
		return append(s, step.MountFS{Root: b.root, Source: "tmpfs", Type: "tmpfs", Target: "/let"},
			step.MoveRoot{Root: b.root, LetGo: []string{b.dir + "/let", b.dir + "/in", "/no/such"}})
	}, look: func(b *bench) {
		b.eq(b.list("root"), "in let")
		b.eq(b.proc("root")+b.proc("cwd"), "//")
		if mounts := b.proc("mountinfo"); strings.Count(mounts, "\n") != 1 {
			b.Errorf("mounts that were to be let go:\n%s", mounts)
		}
	}},
}

func noTime() string {
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		return "this kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)"
	}
	return ""
}
