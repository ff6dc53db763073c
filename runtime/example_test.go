package runtime_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime"
)

// embed makes a container of the bundle in dir, runs a second process in it,
// and removes it. What both write goes to out.
func embed(ctx context.Context, root, dir string, out *os.File) (err error) {
	s := &runtime.Store{Root: root, Warn: func(text string) { fmt.Fprintln(os.Stderr, text) }}
	c, err := s.Create(ctx, "embedded-"+fmt.Sprint(os.Getpid()), runtime.CreateOptions{Bundle: dir, Stdout: out, Stderr: out,
		Spec: &specs.Spec{
			Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Hostname: "embedded",
			Process: &specs.Process{Args: []string{"sleep", "100"}, Cwd: "/", Env: []string{"PATH=/bin"}},
			Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
			Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace}, {Type: specs.CgroupNamespace}}},
		}})
	if err != nil {
		return err
	}
	defer func() {
		if e := c.Delete(ctx, true); err == nil {
			err = e
		}
	}()
	// Everything is there but the program: the place for what a caller has to set up.
	if err := c.Start(ctx); err != nil {
		return err
	}
	p, err := c.ExecProcess()
	if err != nil {
		return err
	}
	p.Args = []string{"cat", "/proc/sys/kernel/hostname"}
	e, err := c.Exec(ctx, runtime.ExecOptions{Process: p, Stdout: out, Stderr: out})
	if err != nil {
		return err
	}
	if exit, err := e.Wait(); err != nil || exit.Code != 0 {
		return fmt.Errorf("the second process: %v, %w", exit, err)
	}
	if err := c.Kill(unix.SIGKILL, false); err != nil {
		return err
	}
	exit, err := c.Wait()
	if err == nil {
		fmt.Fprintln(out, "exit status", exit.Code)
	}
	return err
}

// A program that embeds the runtime needs a bundle, a directory for the state of
// its containers, and root.
func Example() {
	bundle, root := "/var/lib/app/bundle", "/run/app" // bundle/rootfs holds the files
	if err := embed(context.Background(), root, bundle, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func TestExample(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers are made by root: run as root")
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox: apt-get install busybox-static")
	}
	bundle := t.TempDir()
	for _, d := range []string{"bin", "proc"} {
		if err := os.MkdirAll(filepath.Join(bundle, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(bundle+"/rootfs/bin/busybox", busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"sleep", "cat"} {
		if err := os.Symlink("busybox", bundle+"/rootfs/bin/"+a); err != nil {
			t.Fatal(err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	root := t.TempDir()
	err = embed(t.Context(), root, bundle, w)
	w.Close()
	text, _ := io.ReadAll(r)
	if err != nil || string(text) != "embedded\nexit status 137\n" {
		t.Errorf("%q, %v", text, err)
	}
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
