package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/seccomp"
)

// busybox makes a root file system in which sh and all applets are found.
func busybox(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers are made by root: run as root")
	}
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox: apt-get install busybox-static")
	}
	dir := t.TempDir()
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/bin/busybox", bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"sh", "cat", "echo", "readlink", "ls", "sleep", "ps", "kill", "stat", "mount"} {
		if err := os.Symlink("busybox", dir+"/bin/"+a); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func testSpec(args ...string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	return &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Hostname: "box",
		Process: &specs.Process{Args: args, Env: []string{"PATH=/bin"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces:  []specs.LinuxNamespace{{Type: "pid"}, {Type: "mount"}, {Type: "network"}, {Type: "uts"}, {Type: "ipc"}, {Type: "cgroup"}},
			MaskedPaths: []string{"/proc/kcore", "/proc/acpi", "/etc/secret"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	}
}

// output runs a container and gives what it wrote and how it ended.
func output(t *testing.T, c Config) (string, Exit, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c.Stdout, c.Stderr = w, w
	plan, err := Decide(c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Start(context.Background())
	w.Close()
	if err != nil {
		return "", Exit{}, err
	}
	var b bytes.Buffer
	io.Copy(&b, r)
	exit, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), exit, nil
}

func TestContainerRuns(t *testing.T) {
	dir := busybox(t)
	out, exit, err := output(t, Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir},
		Spec: testSpec("sh", "-c", "echo $$; cat /proc/sys/kernel/hostname; ls /proc/self/fd; readlink /proc/self/exe; exit 3")})
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != 3 || !strings.HasPrefix(out, "1\nbox\n0\n1\n2\n") {
		t.Errorf("exit %d, output:\n%s", exit.Code, out)
	}
}

func TestErrorsHaveTheirCause(t *testing.T) {
	dir := busybox(t)
	os.WriteFile(dir+"/bin/plain", []byte("x"), 0o644)
	os.WriteFile(dir+"/bin/noexec", []byte("\x01\x02"), 0o755)
	os.WriteFile(dir+"/bin/script", []byte("#!/no/such\n"), 0o755)
	for _, c := range []struct {
		arg  string
		want error
		says string
	}{
		{"missing", ErrNotFound, "$PATH"}, {"/bin/missing", ErrNotFound, "no such file"},
		{"/bin/plain", ErrNotExecutable, "permission denied"}, {"/bin/noexec", ErrNotExecutable, "exec format"},
		{"/bin/script", ErrNotFound, "interpreter"}, {"script", ErrNotFound, "interpreter"},
		{"plain", ErrNotExecutable, "permission denied"}, {"noexec", ErrNotExecutable, "exec format"}, {"/etc", ErrNotExecutable, "permission denied"},
	} {
		_, _, err := output(t, Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec(c.arg)})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.arg, err)
		}
	}
}

// CVE-2019-5736: neither an entrypoint nor exec reaches the host's binary.
func TestBinaryCannotBeReached(t *testing.T) {
	dir := busybox(t)
	os.WriteFile(dir+"/bin/self", []byte("#!/proc/self/exe\n"), 0o755)
	for _, arg := range []string{"/proc/self/exe", "/bin/self"} {
		out, exit, err := output(t, Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec(arg)})
		if err == nil {
			t.Errorf("%s ran: exit %d, %q", arg, exit.Code, out)
		}
	}
}

// CVE-2024-21626: a working directory that leads through a descriptor of the host.
func TestWorkingDirectoryStaysInside(t *testing.T) {
	dir := busybox(t)
	for _, cwd := range []string{"/proc/self/fd/7", "/proc/self/fd/16", "/proc/self/fd/17/../.."} {
		s := testSpec("sh", "-c", "cat etc/passwd")
		s.Process.Cwd = cwd
		out, _, err := output(t, Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: s})
		if strings.Contains(out, "root:") {
			t.Errorf("%s shows the host: %q %v", cwd, out, err)
		}
	}
}

func TestInitReapsAndPassesOn(t *testing.T) {
	dir := busybox(t)
	out, exit, err := output(t, Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Init: true,
		Spec: testSpec("sh", "-c", "trap 'echo got; exit 9' TERM; (sleep 0.01 &); echo $$; sleep 0.1; kill -TERM 1; while :; do sleep 0.05; done")})
	if err != nil || exit.Code != 9 || out != "2\ngot\n" {
		t.Errorf("exit %d, output %q, %v", exit.Code, out, err)
	}
	_, _, err = output(t, Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Init: true, Spec: testSpec("nope")})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestTerminal(t *testing.T) {
	dir := busybox(t)
	s := testSpec("sh", "-c", "test -t 0 && test -t 2 && echo tty; test -c /dev/console && echo console; read x; echo got $x")
	s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 77}
	plan, err := Decide(Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: s})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ws, err := unix.IoctlGetWinsize(int(p.Console.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Row != 33 || ws.Col != 77 {
		t.Errorf("size %v, %v", ws, err)
	}
	p.Console.WriteString("hello\n")
	var b bytes.Buffer
	io.Copy(&b, p.Console) // ends with EIO
	p.Console.Close()
	if exit, err := p.Wait(); err != nil || exit.Code != 0 {
		t.Errorf("%v %v", exit, err)
	}
	if !strings.Contains(b.String(), "tty\r\n") || !strings.Contains(b.String(), "got hello\r\n") {
		t.Errorf("%q", b.String())
	}
}

func TestCreateWaitsForStart(t *testing.T) {
	dir := busybox(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := Create(context.Background(), Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec("echo", "started"), Stdout: w}, t.TempDir())
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Error(err)
	}
	b, _ := io.ReadAll(r)
	if exit, err := c.Wait(); err != nil || exit.Code != 0 || string(b) != "started\n" {
		t.Errorf("%v %v %q", exit, err, b)
	}
	c, err = Create(context.Background(), Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec("nope")}, t.TempDir())
	if !errors.Is(err, ErrNotFound) { // create finds out, not start
		t.Errorf("got %v, %v", c, err)
	}
}

// Profiles that are older than faccessat2 refuse it, and create is to find the
// program all the same, or not to find it.
func TestProgramIsLookedForBehindAFilter(t *testing.T) {
	dir := busybox(t)
	eperm, enosys := uint(unix.EPERM), uint(unix.ENOSYS)
	for _, c := range []struct {
		refused []string
		errno   *uint
		finds   bool // that a program is missing
	}{
		{[]string{"faccessat2"}, &eperm, true}, {[]string{"faccessat2"}, &enosys, true},
		{[]string{"faccessat2", "faccessat"}, &eperm, false},
	} {
		f, err := seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
			Syscalls: []specs.LinuxSyscall{{Names: c.refused, Action: specs.ActErrno, ErrnoRet: c.errno}}}, runtime.GOARCH)
		if err != nil {
			t.Fatal(err)
		}
		for program, there := range map[string]bool{"cat": true, "/bin/cat": true, "nope": false, "/bin/nope": false} {
			s := testSpec(program)
			s.Process.Env = []string{"PATH=/sbin:/bin:/etc"}
			created, err := Create(context.Background(), Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: s, Seccomp: f}, t.TempDir())
			if c.finds && !there {
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("%v refused with %v: %s: got %v", c.refused, unix.Errno(*c.errno), program, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%v refused with %v: %s: %v", c.refused, unix.Errno(*c.errno), program, err)
				continue
			}
			if err := created.Start(); there && err != nil || !there && !errors.Is(err, ErrNotFound) {
				t.Errorf("%v refused with %v: start %s: %v", c.refused, unix.Errno(*c.errno), program, err)
			}
			created.Wait()
		}
	}
}

// A container that waits ends when it is asked to, as the first process of a pid
// namespace would not by itself.
func TestWaitingContainerTakesSigterm(t *testing.T) {
	c, err := Create(context.Background(), Config{ID: "t", Rootfs: rootfs.Bundle{Path: busybox(t)}, Spec: testSpec("sleep", "100")}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.PidfdSendSignal(int(c.Pidfd.Fd()), unix.SIGTERM, nil, 0); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(); err != nil || exit.Code != 143 {
		t.Errorf("%v, %v", exit, err)
	}
}

// What create looked at may be another file at start.
func TestStartTellsWhyTheProgramCannotBeExecuted(t *testing.T) {
	dir := busybox(t)
	if err := os.WriteFile(dir+"/bin/bad", []byte("\x00not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := Create(context.Background(), Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec("bad")}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); !errors.Is(err, ErrNotExecutable) {
		t.Errorf("got %v", err)
	}
	c.Wait()
}

// An entry point cannot lead out by a descriptor of the runtime (CVE-2024-21626).
func TestNoDescriptorOfTheHostAtExec(t *testing.T) {
	dir := busybox(t)
	for fd := 3; fd < 20; fd++ {
		arg := fmt.Sprintf("/proc/self/fd/%d/../../../../../../../bin/busybox", fd)
		c, err := Create(context.Background(), Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec(arg)}, t.TempDir())
		if err != nil {
			continue // not there when create looked
		}
		if err := c.Start(); err == nil {
			t.Errorf("%s was executed", arg)
		}
		c.Wait()
	}
}

func TestExecJoins(t *testing.T) {
	dir := busybox(t)
	plan, err := Decide(Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec("sleep", "100")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer unix.Kill(p.Pid, unix.SIGKILL)
	r, w, _ := os.Pipe()
	defer r.Close()
	e, err := Exec(context.Background(), ExecConfig{Pid: p.Pid, Stdout: w,
		Process: &specs.Process{Args: []string{"sh", "-c", "cat /proc/sys/kernel/hostname; ps | grep -c 'sleep 10[0]'; exit 5"}, Env: []string{"PATH=/bin"}, Cwd: "/"}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r)
	if exit, err := e.Wait(); err != nil || exit.Code != 5 || string(b) != "box\n1\n" {
		t.Errorf("%v %v %q", exit, err, b)
	}
	_, err = Exec(context.Background(), ExecConfig{Pid: p.Pid, Process: &specs.Process{Args: []string{"/proc/self/exe"}, Cwd: "/"}})
	if err == nil {
		t.Error("exec of /proc/self/exe ran the host's binary")
	}
}

// A cgroup above may refuse mknod, as that of a pod of podman does: the host's
// nodes are bound then.
func TestNodesAreBoundWhereMknodIsRefused(t *testing.T) {
	h, err := cgroups.Find()
	if err != nil {
		t.Skip("no cgroup v2 here: ", err)
	}
	plan, err := h.Plan("berth-test-nodes", cgroups.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s := testSpec("sh", "-c", "echo x >/dev/null && head -c 1 /dev/zero | wc -c && grep -c ' /dev/null ' /proc/mounts")
	out, exit, err := output(t, Config{ID: "t", Rootfs: rootfs.Bundle{Path: busybox(t)}, Spec: s, Cgroup: refusing{plan, t}})
	if err != nil || exit.Code != 0 || out != "1\n1\n" {
		t.Errorf("%q, %v, %v", out, exit, err)
	}
	if err := cgroups.Remove(plan.Dir); err != nil {
		t.Error(err)
	}
}

// refusing is a cgroup whose filter allows all but mknod.
type refusing struct {
	*cgroups.Plan
	t *testing.T
}

func (refusing) Settle() error { return nil }

func (r refusing) Apply(cgroups.Placeholder) (*os.File, error) {
	f, err := r.Plan.Apply()
	if err == nil {
		err = cgroups.DeviceFilter(f, []cgroups.DeviceRule{{Allow: true, Type: 'a', Major: -1, Minor: -1, Access: "rw"}})
	}
	return f, err
}
