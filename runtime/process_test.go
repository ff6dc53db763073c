package runtime

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestDescriptors(t *testing.T) {
	b := newBox(t)
	open, err := os.Open("/") // of the embedding program
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := unix.FcntlInt(open.Fd(), unix.F_SETFD, 0); err != nil { // even if it is not close-on-exec
		t.Fatal(err)
	}
	b.prints("ls /proc/self/fd", "0\n1\n2\n3\n") // 3 is ls' own
	b.sh("exec sleep 100")
	c := b.started("started")
	if l, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.state.Pid)); err != nil || len(l) != 3 {
		t.Errorf("a running container has %v, %v", l, err)
	}
	c = b.create("c")
	for _, f := range []string{"0", "1", "2"} {
		if l, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", c.state.Pid, f)); err != nil || l != "/dev/null" {
			t.Errorf("a waiting container's %s is %s, %v", f, l, err)
		}
	}
}

// sockets of a console or pidfd: what comes over them.
func receive(t *testing.T, path string, act func()) (string, *os.File) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	act()
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	data, oob := make([]byte, 8192), make([]byte, unix.CmsgSpace(4))
	n, on, _, _, err := conn.ReadMsgUnix(data, oob)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil || len(msgs) != 1 {
		t.Fatalf("%v, %v", msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%v, %v", fds, err)
	}
	return string(data[:n]), os.NewFile(uintptr(fds[0]), path)
}

func TestConsoleSocket(t *testing.T) {
	b := newBox(t)
	b.spec.Process.Terminal, b.spec.Process.ConsoleSize = true, &specs.Box{Height: 5, Width: 6}
	b.sh("test -t 0 && echo tty")
	o := b.options()
	o.ConsoleSocket = filepath.Join(t.TempDir(), "s")
	var c *Container
	data, master := receive(t, o.ConsoleSocket, func() {
		var err error
		if c, err = b.store.Create(t.Context(), b.id("c"), o); err != nil {
			t.Fatal(err)
		}
	})
	defer master.Close()
	ws, err := unix.IoctlGetWinsize(int(master.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Row != 5 || ws.Col != 6 || data != "/dev/ptmx" || c.Process().Console != nil {
		t.Errorf("%q, size %v, %v", data, ws, err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := master.Read(buf); err != nil || strings.TrimSpace(string(buf[:n])) != "tty" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	c.Wait()
	o = b.options()
	o.ConsoleSocket = "/no/such"
	if _, err := b.store.Create(t.Context(), b.id("none"), o); err == nil || !strings.Contains(err.Error(), "console socket /no/such") {
		t.Error(err)
	}
	if exists(filepath.Join(b.store.Root, b.id("none"))) {
		t.Error("a failed creation left its directory")
	}
}

func TestPidfdSocket(t *testing.T) {
	b := newBox(t)
	o := b.options()
	o.PidfdSocket = filepath.Join(t.TempDir(), "s")
	var c *Container
	data, pidfd := receive(t, o.PidfdSocket, func() {
		var err error
		if c, err = b.store.Create(t.Context(), b.id("c"), o); err != nil {
			t.Fatal(err)
		}
	})
	defer pidfd.Close()
	info, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd.Fd()))
	if data != "pidfd" || !strings.Contains(string(info), fmt.Sprintf("Pid:\t%d\n", c.state.Pid)) {
		t.Errorf("%q, %s", data, info)
	}
}

func TestSeccomp(t *testing.T) {
	b := newBox(t)
	errno := uint(unix.EXFULL)
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}}}
	for _, noNewPrivs := range []bool{false, true} {
		b.spec.Process.NoNewPrivileges = noNewPrivs
		b.prints("mkdir /x 2>&1; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status", fmt.Sprintf(
			"mkdir: can't create directory '/x': %s\nNoNewPrivs:\t%d\nSeccomp:\t2\n", "Exchange full", map[bool]int{true: 1}[noNewPrivs]))
	}
	b.sh("exec sleep 100")
	c := b.started("c")
	out, _, err := b.exec(c, nil, "mkdir", "/x")
	if err != nil || out != "mkdir: can't create directory '/x': Exchange full\n" {
		t.Errorf("exec: %q, %v", out, err)
	}
	b.spec.Linux.Seccomp.DefaultAction = "SCMP_ACT_NONE"
	b.refused("seccomp: ")
}

func TestSeccompNotify(t *testing.T) {
	b := newBox(t)
	socket := filepath.Join(t.TempDir(), "s")
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: socket, ListenerMetadata: "meta",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}}}
	b.spec.Annotations = map[string]string{"k": "v"}
	var c *Container
	data, listener := receive(t, socket, func() { c = b.create("c") })
	defer listener.Close()
	var s specs.ContainerProcessState
	if err := json.Unmarshal([]byte(data), &s); err != nil || len(s.Fds) != 1 || s.Fds[0] != specs.SeccompFdName || s.Pid != c.state.Pid ||
		s.Metadata != "meta" || s.State.ID != c.ID || s.State.Status != specs.StateCreating || s.State.Bundle != b.bundle || s.State.Annotations["k"] != "v" {
		t.Errorf("%s, %v", data, err)
	}
	l, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", listener.Fd()))
	if l != "anon_inode:seccomp notify" {
		t.Errorf("it is %s", l)
	}
	b.delete(c)
	b.refused("failed to connect with seccomp agent")
}

func TestCapabilities(t *testing.T) {
	b := newBox(t)
	caps := b.spec.Process.Capabilities
	caps.Bounding = append(caps.Bounding, "CAP_NONE", "CAP_SETPCAP")
	caps.Ambient = []string{"CAP_CHOWN"}
	caps.Inheritable = []string{"CAP_CHOWN"}
	// Root gets by execve what is in its bounding set (capabilities(7)).
	b.prints("grep Cap /proc/self/status", "CapInh:\t0000000000000001\nCapPrm:\t00000000000001e3\nCapEff:\t00000000000001e3\nCapBnd:\t00000000000001e3\nCapAmb:\t0000000000000001\n")
	if len(b.warned) != 1 || !strings.Contains(b.warned[0], "CAP_NONE") {
		t.Errorf("warned %q", b.warned)
	}
	b.spec.Process.User.UID = 7
	b.prints("grep -E 'CapEff|CapAmb' /proc/self/status", "CapEff:\t0000000000000001\nCapAmb:\t0000000000000001\n")
}

func TestAttributes(t *testing.T) {
	b := newBox(t)
	adj, mask := 321, uint32(0o27)
	p := b.spec.Process
	p.OOMScoreAdj, p.User.Umask = &adj, &mask
	p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
	p.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
	p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	b.prints("cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn; umask; cat /proc/self/personality; set -- $(cat /proc/self/stat); echo ${19} ${41}",
		"321\n100\n200\n0027\n00000008\n5 3\n")
	b.sh("exec sleep 100")
	c := b.started("c")
	prio, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(c.state.Pid), 0)
	if errno != 0 || prio != 2<<13|6 {
		t.Errorf("I/O priority %#x, %v", prio, errno)
	}
}

func TestAttributesThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(s *specs.Spec){
		"invalid memory policy mode": func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "x"} },
		"mode requires 0 nodes": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolLocal, Nodes: "0"}
		},
		"mode requires at least one node": func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind} },
		"invalid memory policy flag": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{"x"}}
		},
		"invalid memory policy nodes": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1-0"}
		},
		"invalid scheduler policy": func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "x"} },
		"invalid scheduler.nice":   func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} },
		"invalid ioPriority": func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		},
		"invalid personality domain":           func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "x"} },
		"rootfsPropagation=x is not supported": func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
		"holds a NUL byte":                     func(s *specs.Spec) { s.Process.Args = []string{"a\x00b"} },
		"process.cwd \"x\" is not an absolute": func(s *specs.Spec) { s.Process.Cwd = "x" },
	} {
		b := newBox(t)
		change(b.spec)
		b.refused(want)
	}
}

func TestMemoryPolicy(t *testing.T) {
	b := newBox(t)
	b.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	b.prints("head -n1 /proc/self/numa_maps | grep -o bind:0", "bind:0\n")
}

func TestSysctl(t *testing.T) {
	b := newBox(t)
	b.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "net/ipv4/conf/lo/forwarding": "0", "kernel.domainname": "d"}
	b.prints("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/forwarding /proc/sys/kernel/domainname", "1\n0\nd\n")
}
