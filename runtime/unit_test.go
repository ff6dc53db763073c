package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/engine"
)

func TestIDs(t *testing.T) {
	for _, id := range []string{"a", "A-b_c+d.e", "0", "...", strings.Repeat("x", 255)} {
		if err := checkID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	s := &Store{Root: t.TempDir()}
	for _, id := range []string{"", ".", "..", "a/b", "../x", "a b", "a\x00", "ä", "a:b"} {
		if err := checkID(id); err != ErrInvalidID {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := s.Load(id); err != ErrInvalidID {
			t.Errorf("load %q: %v", id, err)
		}
		if _, err := s.Create(t.Context(), id, CreateOptions{}); err != ErrInvalidID {
			t.Errorf("create %q: %v", id, err)
		}
		if err := s.DeleteLeftovers(t.Context(), id); err != ErrInvalidID {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	if _, err := s.Load("none"); err != ErrNotExist {
		t.Errorf("got %v", err)
	}
}

func TestNormalise(t *testing.T) {
	bundle := t.TempDir()
	real := filepath.Join(bundle, "real")
	if err := errors.Join(os.Mkdir(real, 0o755), os.Symlink("real", bundle+"/link"), os.WriteFile(bundle+"/file", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	good := func() *specs.Spec {
		return &specs.Spec{Version: "1.2.0", Root: &specs.Root{Path: "link"}, Process: &specs.Process{Cwd: "/", Args: []string{"x"}},
			Mounts: []specs.Mount{{Type: "bind", Source: "a"}, {Source: "b", Options: []string{"rbind"}}, {Type: "tmpfs", Source: "c"}, {Type: "bind", Source: "/d"}}}
	}
	s := good()
	if err := normalise(s, bundle); err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, m := range s.Mounts {
		sources = append(sources, m.Source)
	}
	if s.Root.Path != real || s.Linux == nil || !reflect.DeepEqual(sources, []string{bundle + "/a", bundle + "/b", "c", "/d"}) {
		t.Errorf("root %s, linux %v, sources %v", s.Root.Path, s.Linux, sources)
	}
	for want, spoil := range map[string]func(*specs.Spec){
		"no ociVersion":              func(s *specs.Spec) { s.Version = "" },
		"ociVersion 2.0.0":           func(s *specs.Spec) { s.Version = "2.0.0" },
		"no root.path":               func(s *specs.Spec) { s.Root = nil },
		"no process":                 func(s *specs.Spec) { s.Process = nil },
		"cwd must not be empty":      func(s *specs.Spec) { s.Process.Cwd = "" },
		"not an absolute path":       func(s *specs.Spec) { s.Process.Cwd = "x" },
		"args must not be empty":     func(s *specs.Spec) { s.Process.Args = nil },
		"invalid rootfs":             func(s *specs.Spec) { s.Root.Path = "none" },
		"file is not a directory":    func(s *specs.Spec) { s.Root.Path = "file" },
		"real/none: no such file or": func(s *specs.Spec) { s.Root.Path = "link/none" },
	} {
		s := good()
		spoil(s)
		if err := normalise(s, bundle); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestHome(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(root+"/etc", 0o755), os.WriteFile(root+"/etc/passwd", []byte("bad\nroot:x:0:0:root:/root:/bin/sh\nu:x:7:7::/home/u:\nn:x:8:8:::\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid       uint32
		env, want string
	}{
		{0, "A=1", "A=1 HOME=/root"}, {7, "", "HOME=/home/u"}, {8, "", "HOME=/"}, {9, "", "HOME=/"},
		{7, "HOME=/x", "HOME=/x"}, {7, "HOME=", "HOME=/home/u"}, {7, "HOME=/a HOME=/b", "HOME=/b"},
		{7, "HOME=/a HOME=", "HOME=/home/u"}, {7, "A=1 B=2 A=3 nothing", "B=2 A=3 HOME=/home/u"},
	} {
		p := &specs.Process{User: specs.User{UID: c.uid}, Env: strings.Fields(c.env)}
		setHome(p, root)
		if got := strings.Join(p.Env, " "); got != c.want {
			t.Errorf("uid %d, %q: %q, want %q", c.uid, c.env, got, c.want)
		}
	}
}

// The container's /etc/passwd is its own, and nothing that a link or a FIFO of
// its maker's leads to.
func TestHomeStaysInside(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "passwd")
	passwd := filepath.Join(root, "etc/passwd")
	if err := errors.Join(os.Mkdir(root+"/etc", 0o755), os.WriteFile(outside, []byte("root:x:0:0::/outside:\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func() error{
		"link":      func() error { return os.Symlink(outside, passwd) },
		"dots":      func() error { return os.Symlink("../../../../.."+outside, passwd) },
		"fifo":      func() error { return unix.Mkfifo(passwd, 0o644) },
		"directory": func() error { return os.Mkdir(passwd, 0o755) },
		"too long":  func() error { return os.WriteFile(passwd, []byte(strings.Repeat("x", 2<<20)), 0o644) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if got := homeOf(root, 0); got != "/" {
			t.Errorf("%s: %s", what, got)
		}
		if err := os.Remove(passwd); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStartFailed(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("why"), "unable to start container process: why"},
		{&engine.StartError{Object: "execute x", Execve: true, File: "/x", Errno: unix.ENOEXEC}, "exec /x: exec format error"},
	} {
		err := startFailed(c.err)
		if err.Error() != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestHookError(t *testing.T) {
	err := hookError("prestart", 2, unix.ENOENT, " out\n", "errs\n")
	if err.Error() != "error running prestart hook #2: no such file or directory, stdout: out, stderr: errs" || !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

func TestStateRoundTrip(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	want := state{ID: "x", Bundle: "/b", Rootfs: "/b/r", Created: "2024-01-02T03:04:05.000000006Z", Version: "1.2.0", Owner: 7,
		Notes: map[string]string{"a": "b"}, Cgroup: cgroups.State{Dir: "/c"}, Pid: 1 << 22, Ticks: 1<<63 + 1, Boot: "boot",
		Gate: &engine.Gate{Dir: "/g", Last: 9, Args: []string{"a"}, Path: []string{"/bin"}}, NoNewKeyring: true, NoSetgroups: true}
	c := &Container{ID: "x", store: s, dir: filepath.Join(s.Root, "x"), state: want}
	if err := errors.Join(os.Mkdir(c.dir, 0o711), c.save()); err != nil {
		t.Fatal(err)
	}
	again, err := s.Load("x")
	if err != nil || !reflect.DeepEqual(again.state, want) {
		t.Errorf("%+v, %v", again, err)
	}
	if left, _ := filepath.Glob(c.dir + "/*"); len(left) != 1 {
		t.Errorf("files: %v", left)
	}
	if err := c.saveNew(creatingFile); err != nil {
		t.Fatal(err)
	}
	want.Creating = true
	for _, spoil := range []func(){func() {}, func() { os.Truncate(c.path(stateFile), 50) }, func() { os.Truncate(c.path(stateFile), 0) }, func() { os.Remove(c.path(stateFile)) }} {
		spoil()
		if again, err := s.Load("x"); err != nil || !reflect.DeepEqual(again.state, want) {
			t.Errorf("while it is created: %+v, %v", again, err)
		}
	}
	if err := errors.Join(os.WriteFile(c.path(stateFile), []byte("{"), 0o600), os.Remove(c.path(creatingFile))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("x"); err == nil || !strings.Contains(err.Error(), "read the state of container x") {
		t.Errorf("a broken state: %v", err)
	}
	os.Mkdir(s.Root+"/half", 0o711)
	if l, err := s.List(); err != nil || len(l) != 0 {
		t.Errorf("list: %v, %v", l, err)
	}
}

func TestStatusOfStalePid(t *testing.T) {
	ticks, ok := engine.ProcessStart(os.Getpid())
	if !ok || ticks == 0 {
		t.Fatal("no start of this process")
	}
	s := &Store{Root: t.TempDir()}
	for _, c := range []struct {
		state state
		want  string
	}{
		{state{Pid: os.Getpid(), Ticks: ticks, Boot: engine.BootID()}, Running},
		{state{Pid: os.Getpid(), Ticks: ticks, Boot: engine.BootID(), Creating: true}, Running}, // it has executed something
		{state{Pid: os.Getpid(), Ticks: ticks + 1, Boot: engine.BootID()}, Stopped},             // another one's now
		{state{Pid: os.Getpid(), Ticks: ticks, Boot: "another"}, Stopped},                       // of another boot
		{state{Pid: 1<<22 - 1, Ticks: 1, Boot: engine.BootID()}, Stopped},                       // there is none
		{state{Pid: 0, Creating: true, Boot: engine.BootID()}, Stopped},                         // never was
		{state{Pid: os.Getpid(), Ticks: ticks, Gate: &engine.Gate{}}, Running},                  // nothing waits any more
	} {
		ctr := &Container{ID: "x", store: s, dir: s.Root + "/x", state: c.state}
		st, err := ctr.State()
		if err != nil || st.Status != c.want || (st.Pid == 0) != (c.want == Stopped) {
			t.Errorf("%+v: %+v, %v; want %s", c.state, st, err, c.want)
		}
		if f, err := ctr.pidfd(); (err == ErrNotRunning) != (c.want == Stopped) {
			t.Errorf("%+v: pidfd %v", c.state, err)
		} else if err == nil {
			f.Close()
		}
	}
	// Nothing is ever sent to a process that only has the number.
	ctr := &Container{ID: "x", store: s, dir: s.Root + "/x", state: state{Pid: os.Getpid(), Ticks: ticks + 1}}
	if err := ctr.Kill(unix.SIGKILL, false); err != ErrNotRunning {
		t.Error(err)
	}
}

// The name of a process may look like the rest of its line.
func TestProcessStartOfOddNames(t *testing.T) {
	if _, ok := engine.ProcessStart(1 << 22); ok {
		t.Error("there is no such process")
	}
	old, err := os.ReadFile("/proc/thread-self/comm")
	if err != nil {
		t.Skip(err)
	}
	want, _ := engine.ProcessStart(os.Getpid())
	if err := os.WriteFile("/proc/self/comm", []byte(") Z 1 (x"), 0); err != nil {
		t.Skip(err)
	}
	defer os.WriteFile("/proc/self/comm", []byte(strings.TrimSpace(string(old))), 0)
	if got, ok := engine.ProcessStart(os.Getpid()); !ok || got != want {
		t.Errorf("%d %v, want %d", got, ok, want)
	}
}

func TestLabelsAreRefused(t *testing.T) {
	for _, c := range []struct{ name, profile, selinux, file string }{
		{"apparmor", "x", "", "/sys/module/apparmor/parameters/enabled"}, {"selinux", "", "x:y:z", "/sys/fs/selinux/enforce"},
	} {
		if _, err := os.Stat(c.file); err == nil {
			t.Logf("skipped: %s is there on this host", c.file)
			continue
		}
		if _, err := labels(c.profile, c.selinux); err == nil || !strings.Contains(strings.ToLower(err.Error()), c.name) || !strings.Contains(err.Error(), "not enabled") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if l, err := labels("unconfined", ""); err != nil || l != (engine.Labels{}) {
		t.Errorf("%v, %v", l, err)
	}
}

func TestLoadSpec(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	if _, err := LoadSpec(file); err == nil || err.Error() != "JSON specification file "+file+" not found" {
		t.Error(err)
	}
	os.WriteFile(file, []byte(`{"ociVersion":1}`), 0o600)
	if _, err := LoadSpec(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
}

func TestPidFile(t *testing.T) {
	dir := t.TempDir()
	if err := writePidFile(dir+"/pid", 42); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir + "/pid")
	left, _ := os.ReadDir(dir)
	if string(b) != "42" || err != nil || len(left) != 1 {
		t.Errorf("%q, %v, %v", b, err, left)
	}
	if err := writePidFile(dir+"/no/pid", 42); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestStateFields(t *testing.T) {
	b, err := json.Marshal(State{Version: "1", ID: "i", Created: "c"})
	if want := `{"ociVersion":"1","id":"i","pid":0,"status":"","bundle":"","rootfs":"","created":"c","owner":""}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

func TestOwner(t *testing.T) {
	for uid, want := range map[int]string{0: "root", 3999999999: "#3999999999"} {
		if got := (&Container{state: state{Owner: uid}}).Owner(); got != want {
			t.Errorf("%d: %s", uid, got)
		}
	}
}

func TestCgroupOwner(t *testing.T) {
	s := busyboxSpec()
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 7000, Size: 10}}
	s.Mounts = append(s.Mounts, specs.Mount{Type: "cgroup2", Destination: "/sys/fs/cgroup"})
	if id := cgroupOwner(s); id != nil {
		t.Errorf("without a user namespace: %d", *id)
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	if id := cgroupOwner(s); id == nil || *id != 7000 {
		t.Errorf("got %s", fmt.Sprint(id))
	}
	s.Mounts[len(s.Mounts)-1].Options = []string{"ro"}
	if id := cgroupOwner(s); id != nil {
		t.Errorf("read-only: %d", *id)
	}
}

// TestLoadWhileCreated: from its first file on a container is always found.
func TestLoadWhileCreated(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	for i := range 300 {
		c := &Container{ID: fmt.Sprintf("c%d", i), store: s}
		c.dir = filepath.Join(s.Root, c.ID)
		c.state = state{ID: c.ID, Notes: map[string]string{"long": strings.Repeat("x", 20000)}} // more than one page
		if err := errors.Join(os.Mkdir(c.dir, 0o711), c.saveNew(creatingFile)); err != nil {
			t.Fatal(err)
		}
		made := make(chan error)
		go func() { made <- errors.Join(c.saveNew(stateFile), os.Remove(c.path(creatingFile))) }()
		for there := true; there; {
			l, err := s.Load(c.ID)
			if err != nil {
				t.Fatal(err)
			}
			there = l.state.Creating
		}
		if err := <-made; err != nil {
			t.Fatal(err)
		}
	}
}
