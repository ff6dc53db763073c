package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime"
)

// A program that tells systemd when it is ready (sd_notify(3)) does so over the
// socket that NOTIFY_SOCKET names, which is not there in a container. So it gets
// a socket of its own, and what it says is passed on.
const (
	notifyDir  = "notify" // below the container's directory
	notifyName = "notify.sock"
	notifyEnv  = "NOTIFY_SOCKET"
	inside     = "/run/notify" // where the directory is in the container
)

// notifier is such a socket.
type notifier struct {
	fd   int
	host string // the caller's NOTIFY_SOCKET
}

// prepareNotify makes the socket's directory and shows it to the container. The
// directory is mounted and not the socket: that is made by whoever listens,
// which may be another call.
func prepareNotify(dir string, spec *specs.Spec) error {
	dir = filepath.Join(dir, notifyDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: inside, Type: "bind", Source: dir,
		Options: []string{"bind", "nosuid", "noexec", "nodev", "ro"}})
	spec.Process.Env = append(spec.Process.Env, notifyEnv+"="+inside+"/"+notifyName)
	return nil
}

// notifyAtOnce listens as soon as the container's directory is there; nil if the
// caller does not want to be notified.
func notifyAtOnce(o *runtime.CreateOptions) *notifier {
	if o.Prepare == nil {
		return nil
	}
	n := &notifier{fd: -1}
	o.Prepare = func(dir string, spec *specs.Spec) error {
		if err := prepareNotify(dir, spec); err != nil {
			return err
		}
		made, err := listenNotify(dir)
		if err == nil {
			*n = *made
		}
		return err
	}
	return n
}

// listenNotify binds the socket of a container whose directory this is. nil:
// the caller has none, or the container was created without.
func listenNotify(dir string) (*notifier, error) {
	host := os.Getenv(notifyEnv)
	if host == "" {
		return nil, nil
	}
	at, err := unix.Open(filepath.Join(dir, notifyDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the directory of the notify socket: %w", err)
	}
	defer unix.Close(at)
	// Whatever --root is: a socket's path has 107 bytes at most (unix(7)).
	path := fmt.Sprintf("/proc/self/fd/%d/%s", at, notifyName)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	n := &notifier{fd: fd, host: host}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = os.Chmod(path, 0o777) // the container's users are any
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("make the notify socket: %w", err)
	}
	return n, nil
}

func (n *notifier) close() {
	if n != nil && n.fd >= 0 {
		unix.Close(n.fd)
	}
}

// untilReady stays until a container that was started in the background is
// ready, if there is somebody to be told.
func (c *call) untilReady(n *notifier, pidfd *os.File, pid int) {
	if n == nil {
		return
	}
	if err := n.forward(pidfd, pid, true); err != nil {
		c.log.warn(err.Error())
	}
}

// background passes on all that the container says for as long as it is there.
// We are the process that systemd sees, and stay.
func (n *notifier) background(pidfd *os.File) error {
	if n == nil {
		return nil
	}
	fd, err := unix.FcntlInt(pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 0) // the other ends with the wait
	if err != nil {
		return os.NewSyscallError("fcntl F_DUPFD", err)
	}
	go n.forward(os.NewFile(uintptr(fd), pidfd.Name()), os.Getpid(), false)
	return nil
}

// forward passes on what the container says until its first process ends or,
// with first, until it is ready. mainPid is the process that systemd shall watch.
func (n *notifier) forward(pidfd *os.File, mainPid int, first bool) error {
	buf := make([]byte, 4096) // what systemd reads at most
	for {
		p := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}, {Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return os.NewSyscallError("poll", err)
		}
		if p[0].Revents&unix.POLLIN == 0 {
			return nil
		}
		got, _, err := unix.Recvfrom(n.fd, buf, 0)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		msg, ready := translate(buf[:got], mainPid)
		if first && !ready {
			continue
		}
		if err := n.tell(msg); err != nil {
			return err
		}
		if ready && first {
			return n.barrier()
		}
	}
}

// translate leaves out the container's own pids, which mean nothing outside, and
// adds the pid to a message of readiness.
func translate(msg []byte, mainPid int) (out []byte, ready bool) {
	for line := range bytes.Lines(msg) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 || bytes.HasPrefix(line, []byte("MAINPID")) {
			continue
		}
		ready = ready || bytes.HasPrefix(line, []byte("READY="))
		out = append(append(out, line...), '\n')
	}
	if ready {
		out = append(out, "MAINPID="+strconv.Itoa(mainPid)+"\n"...)
	}
	return out, ready
}

func (n *notifier) tell(msg []byte, fds ...int) error {
	if len(msg) == 0 {
		return nil
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(n.fd, msg, rights, &unix.SockaddrUnix{Name: n.host}, 0); err != nil {
		return fmt.Errorf("send to %s of the caller: %w", notifyEnv, err)
	}
	return nil
}

// barrier waits until systemd has read what came before (sd_notify_barrier(3)):
// it must know the sender, which is about to end.
func (n *notifier) barrier() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = n.tell([]byte("BARRIER=1"), int(w.Fd()))
	w.Close()
	if err != nil {
		return err
	}
	// Systems before systemd 246 never close it.
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("waited 30 s for systemd to read that the container is ready")
	}
	return nil
}
