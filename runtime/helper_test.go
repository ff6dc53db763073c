package runtime

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
)

// box is a bundle with busybox in it, and a store of its own.
type box struct {
	*testing.T
	bundle string
	spec   *specs.Spec
	store  *Store
	mu     sync.Mutex
	warned []string
}

// newBox skips, and says why, where no container can be made.
func newBox(t *testing.T) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers are made by root: run as root")
	}
	b := &box{T: t, bundle: t.TempDir()}
	if err := fillRoot(b.root()); err != nil {
		t.Skip(err)
	}
	if err := os.Chmod(b.bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	b.spec = busyboxSpec()
	b.store = &Store{Root: t.TempDir(), Warn: func(s string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.warned = append(b.warned, s)
	}}
	t.Cleanup(b.end)
	return b
}

// fillRoot makes a root file system in which sh and some applets are found.
func fillRoot(dir string) error {
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("needs /bin/busybox: apt-get install busybox-static")
	}
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(dir+"/bin/busybox", bin, 0o755); err != nil {
		return err
	}
	for _, a := range []string{"sh", "cat", "echo", "grep", "readlink", "ls", "sleep", "ps", "kill", "stat", "mount", "pwd", "id", "ip", "true", "touch", "mkdir", "chroot", "uname", "nice", "wc", "env", "head"} {
		if err := os.Symlink("busybox", dir+"/bin/"+a); err != nil {
			return err
		}
	}
	return nil
}

func busyboxSpec() *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"}
	return &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Hostname: "box",
		Process: &specs.Process{Args: []string{"sleep", "100"}, Env: []string{"PATH=/bin"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: "pid"}, {Type: "mount"}, {Type: "network"}, {Type: "uts"}, {Type: "ipc"}, {Type: "cgroup"}},
		},
	}
}

func (b *box) root() string { return filepath.Join(b.bundle, "rootfs") }

// id is one that no other test process on this host has.
func (b *box) id(name string) string {
	return strings.NewReplacer("/", "-", "#", "-").Replace(b.Name()) + "-" + name + "-" + strconv.Itoa(os.Getpid())
}

// end deletes what a test has left and looks whether all of it is gone.
func (b *box) end() {
	list, err := b.store.List()
	if err != nil {
		b.Error(err)
	}
	for _, c := range list {
		if err := c.Delete(context.Background(), true); err != nil {
			b.Errorf("delete %s: %v", c.ID, err)
		}
		b.gone(c)
	}
	if left, _ := os.ReadDir(b.store.Root); len(left) > 0 {
		b.Errorf("left in the store: %v", left)
	}
}

// gone: no process, no cgroup, no directory of a container. A zombie is the
// business of whoever created it.
func (b *box) gone(c *Container) {
	b.Helper()
	if c.alive() {
		b.Errorf("process %d of %s is left", c.state.Pid, c.ID)
	}
	for _, dir := range []string{c.state.Cgroup.Dir, c.dir} {
		if dir == "" {
			continue
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			b.Errorf("%s of %s is left: %v", dir, c.ID, err)
		}
	}
}

// namespace replaces or adds one of the spec.
func (b *box) namespace(kind specs.LinuxNamespaceType, path string) {
	b.without(kind)
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

func (b *box) without(kind specs.LinuxNamespaceType) {
	var out []specs.LinuxNamespace
	for _, n := range b.spec.Linux.Namespaces {
		if n.Type != kind {
			out = append(out, n)
		}
	}
	b.spec.Linux.Namespaces = out
}

func (b *box) sh(script string) { b.spec.Process.Args = []string{"sh", "-c", script} }

// options are those of a container with this spec, which is copied: every
// container may change its own.
func (b *box) options() CreateOptions {
	b.Helper()
	return CreateOptions{Bundle: b.bundle, Spec: b.copySpec()}
}

func (b *box) copySpec() *specs.Spec {
	b.Helper()
	file := filepath.Join(b.TempDir(), "config.json")
	if err := (&Container{dir: filepath.Dir(file)}).saveSpec(b.spec); err != nil {
		b.Fatal(err)
	}
	s, err := LoadSpec(file)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// create, or the test ends.
func (b *box) create(name string) *Container {
	b.Helper()
	c, err := b.store.Create(context.Background(), b.id(name), b.options())
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// started creates and starts; the test ends if that fails.
func (b *box) started(name string) *Container {
	b.Helper()
	c := b.create(name)
	if err := c.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	return c
}

// output runs the spec to its end and gives what it wrote.
func (b *box) output(o CreateOptions) (string, engine.Exit, error) {
	b.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	o.Stdout, o.Stderr = w, w
	c, err := b.store.Run(context.Background(), b.id("run"), o)
	w.Close()
	if err != nil {
		return "", engine.Exit{}, err
	}
	defer b.delete(c)
	text, _ := io.ReadAll(r)
	exit, err := c.Wait()
	return string(text), exit, err
}

// prints runs a script and compares what it writes.
func (b *box) prints(script, want string) {
	b.Helper()
	b.sh(script)
	out, exit, err := b.output(b.options())
	if err != nil || out != want || exit.Code != 0 {
		b.Errorf("%s\nwrites %q, want %q; %v, %v", script, out, want, exit, err)
	}
}

// refused: the container is not made, for this reason, and nothing is left.
func (b *box) refused(want string) {
	b.Helper()
	c, err := b.store.Create(context.Background(), b.id("refused"), b.options())
	if err == nil {
		b.delete(c)
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		b.Errorf("got %v, want an error with %q", err, want)
	}
	if _, err := b.store.Load(b.id("refused")); err != ErrNotExist {
		b.Errorf("a failed creation left something: %v", err)
	}
}

func (b *box) delete(c *Container) {
	b.Helper()
	if err := c.Delete(context.Background(), true); err != nil {
		b.Error(err)
	}
	b.gone(c)
}

// exec gives what one more process of a container wrote.
func (b *box) exec(c *Container, change func(*ExecOptions), args ...string) (string, engine.Exit, error) {
	b.Helper()
	p, err := c.ExecProcess()
	if err != nil {
		b.Fatal(err)
	}
	p.Args = args
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	o := ExecOptions{Process: p, Stdout: w, Stderr: w}
	if change != nil {
		change(&o)
	}
	e, err := c.Exec(context.Background(), o)
	w.Close()
	if err != nil {
		return "", engine.Exit{}, err
	}
	text, _ := io.ReadAll(r)
	exit, err := e.Wait()
	return string(text), exit, err
}

func (b *box) status(c *Container, want string) {
	b.Helper()
	again, err := b.store.Load(c.ID) // as another program sees it
	if err != nil {
		b.Error(err)
		return
	}
	if s, err := again.State(); err != nil || s.Status != want {
		b.Errorf("state %+v, %v; want %s", s, err, want)
	}
}

// within waits for a condition, two seconds at most.
func (b *box) within(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(2 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Errorf("not within two seconds: %s", what)
			return
		}
	}
}

// ended waits for the end of a process that another one reaps.
func (b *box) ended(c *Container) {
	b.Helper()
	b.within("the end of "+c.ID, func() bool { return !c.alive() })
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }
