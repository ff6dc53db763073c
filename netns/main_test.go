package netns

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The main thread is what /proc/PID/ns shows: no test may move it.
func init() { runtime.LockOSThread() }

// TestMain runs the tests in a network namespace of their own when it can:
// it disappears with the process, so that nothing can be left behind. The same
// binary is also the container (a server that says who is calling) and the
// parallel berths of the tests.
func TestMain(m *testing.M) {
	switch os.Getenv("NETNS_TEST") {
	case "container":
		serve()
	case "lease":
		leaseMany()
	case "berth":
		runMany()
	case "churn":
		churn()
	case "isolated":
		os.Exit(m.Run())
	default:
		if os.Getuid() != 0 {
			os.Exit(m.Run())
		}
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), "NETNS_TEST=isolated")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// isolated skips a test that changes the kernel's network.
func isolated(t testing.TB) {
	t.Helper()
	if os.Getenv("NETNS_TEST") != "isolated" {
		t.Skip("needs root: makes network namespaces")
	}
	if err := loopback(os.Getpid()); err != nil {
		t.Fatal(err)
	}
}

// loopback switches lo on in the network namespace of process pid.
func loopback(pid int) error {
	ns, err := openNetns(pid)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(ns)
	c, err := dialIn(ns)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer c.close()
	if err := (&Plan{}).run(c, []step{setUp("lo")}, nil); err != nil {
		return fmt.Errorf("loopback of process %d: %w", pid, err)
	}
	return nil
}

// serve answers every connection and datagram with its name and the caller's address.
func serve() {
	name := os.Getenv("NAME")
	for _, port := range []string{"80", "81"} {
		l, err := net.Listen("tcp4", ":"+port)
		check(err)
		go func() {
			for {
				c, err := l.Accept()
				check(err)
				fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr())
				c.Close()
			}
		}()
		u, err := net.ListenPacket("udp4", ":"+port)
		check(err)
		go func() {
			for buf := make([]byte, 100); ; {
				_, from, err := u.ReadFrom(buf)
				check(err)
				_, err = fmt.Fprintf(writerTo{u, from}, "%s %s\n", name, from)
				check(err)
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

type writerTo struct {
	net.PacketConn
	addr net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.addr) }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// container is a process in its own network namespace.
func container(t testing.TB, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"NETNS_TEST=container", "NAME=" + name}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // Pdeathsig looks at the thread
	t.Cleanup(runtime.UnlockOSThread)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("container: %q, %v", line, err)
	}
	return cmd
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // may be gone
	_ = cmd.Wait()
}

// in runs f in the network namespace of a process.
func in(t testing.TB, pid int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		fd, err := openNetns(pid)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// ask says who answers and whom it sees calling, or why there was no answer.
func ask(network, addr string) string {
	d := net.Dialer{Timeout: 500 * time.Millisecond}
	c, err := d.Dial(network, addr)
	if err != nil {
		return "no answer: " + err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if network == "udp" {
		fmt.Fprintln(c, "hello")
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "no answer: " + err.Error()
	}
	name, from, _ := strings.Cut(strings.TrimSpace(line), " ")
	return name + " sees " + netip.MustParseAddrPort(from).Addr().String()
}

// sh runs a command of the distribution to look at the kernel independently.
func sh(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func start(t testing.TB, root, id string, ports ...Port) (*Plan, *exec.Cmd) {
	t.Helper()
	p, err := Decide(root, Request{ID: id, Ports: ports})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Release(root, id); err != nil {
			t.Error(err)
		}
	})
	cmd := container(t, id)
	if err := p.Apply(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return p, cmd
}
