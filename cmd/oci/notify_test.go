package oci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestTranslate(t *testing.T) {
	for in, want := range map[string]string{
		"READY=1":                         "READY=1\nMAINPID=7\n",
		"READY=1\nSTATUS=up\nMAINPID=1\n": "READY=1\nSTATUS=up\nMAINPID=7\n",
		"STATUS=x\n":                      "STATUS=x\n",
		"MAINPID=1":                       "",
	} {
		out, ready := translate([]byte(in), 7)
		if string(out) != want || ready != strings.HasPrefix(in, "READY") {
			t.Errorf("%q: %q, %v", in, out, ready)
		}
	}
}

// A container says that it is ready, and systemd hears it, with the pid, and a
// barrier behind.
func TestNotify(t *testing.T) {
	systemd := filepath.Join(t.TempDir(), "systemd")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: systemd}); err != nil {
		t.Fatal(err)
	}
	t.Setenv(notifyEnv, systemd)
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 50))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	spec := &specs.Spec{Process: &specs.Process{}}
	if err := prepareNotify(dir, spec); err != nil {
		t.Fatal(err)
	}
	if m := spec.Mounts[0]; m.Destination != "/run/notify" || m.Source != dir+"/notify" || spec.Process.Env[0] != "NOTIFY_SOCKET=/run/notify/notify.sock" {
		t.Errorf("%+v", spec)
	}
	n, err := listenNotify(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	alive, end := waiting(t)
	done := make(chan error)
	go func() { done <- n.forward(alive, 4711, true) }()
	t.Chdir(dir)
	for _, msg := range []string{"STATUS=starting", "READY=1\n"} {
		if err := unix.Sendto(fd, []byte(msg), 0, &unix.SockaddrUnix{Name: "notify/notify.sock"}); err != nil {
			t.Fatal(err)
		}
	}
	if msg, _ := receive(t, fd); msg != "READY=1\nMAINPID=4711\n" {
		t.Errorf("systemd reads %q", msg)
	}
	msg, rights := receive(t, fd)
	if msg != "BARRIER=1" || len(rights) != 1 {
		t.Fatalf("systemd reads %q, %d descriptors", msg, len(rights))
	}
	select {
	case err := <-done:
		t.Errorf("it did not wait for the barrier: %v", err)
	default:
	}
	unix.Close(rights[0])
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() { done <- n.forward(alive, 4711, true) }()
	end()
	if err := <-done; err != nil {
		t.Errorf("the end of the container: %v", err)
	}
}

// waiting is a process that ends when end is called.
func waiting(t *testing.T) (pidfd *os.File, end func()) {
	t.Helper()
	c := exec.Command("cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), func() { in.Close(); c.Wait() }
}

func receive(t *testing.T, fd int) (string, []int) {
	t.Helper()
	buf, oob := make([]byte, 4096), make([]byte, 64)
	n, on, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	if msgs, err := unix.ParseSocketControlMessage(oob[:on]); err == nil && len(msgs) > 0 {
		fds, _ = unix.ParseUnixRights(&msgs[0])
	}
	return string(buf[:n]), fds
}

func TestNoNotify(t *testing.T) {
	t.Setenv(notifyEnv, "")
	if n, err := listenNotify(t.TempDir()); n != nil || err != nil {
		t.Errorf("without %s: %v, %v", notifyEnv, n, err)
	}
	t.Setenv(notifyEnv, "/x")
	if n, err := listenNotify(t.TempDir()); n != nil || err != nil {
		t.Errorf("for a container created without: %v, %v", n, err)
	}
}
