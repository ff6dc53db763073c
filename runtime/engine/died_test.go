package engine

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/seccomp"
)

// A process that is killed before execve closes its pipe as execve does.
func TestKilledBeforeExecveIsNotStarted(t *testing.T) {
	dir := busybox(t)
	for name, wait := range map[string]bool{"zombie when looked at": true, "still ending": false} {
		plan, err := Decide(Config{ID: "t", Rootfs: rootfs.Bundle{Path: dir}, Spec: testSpec("echo", "x"), Cloned: func(pid int) error {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				return err
			}
			for wait {
				if f := processStat(pid); f == nil || f[0] == "Z" {
					break
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = plan.Start(context.Background())
		var died *DiedError
		if !errors.As(err, &died) || died.Status.Signal() != unix.SIGKILL || died.OOM || !strings.Contains(err.Error(), "killed by SIGKILL") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the parent did with a process that was killed failed for that reason.
func TestDeathExplainsTheParentsError(t *testing.T) {
	plan, err := Decide(Config{ID: "t", Rootfs: rootfs.Bundle{Path: busybox(t)}, Spec: testSpec("echo", "x"), Cloned: func(pid int) error {
		unix.Kill(pid, unix.SIGKILL)
		for f := processStat(pid); f != nil && f[0] != "Z"; f = processStat(pid) {
			time.Sleep(time.Millisecond)
		}
		return errors.New("no such process")
	}})
	if err != nil {
		t.Fatal(err)
	}
	var died *DiedError
	if _, err := plan.Start(context.Background()); !errors.As(err, &died) {
		t.Errorf("%v", err)
	}
}

// killExecve is a filter that ends whoever executes a program.
func killExecve(t *testing.T) *seccomp.Filter {
	t.Helper()
	f, err := seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{{Names: []string{"execve"}, Action: specs.ActKillProcess}}}, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilterThatKillsAtExecve(t *testing.T) {
	c := Config{ID: "t", Rootfs: rootfs.Bundle{Path: busybox(t)}, Spec: testSpec("echo", "x"), Seccomp: killExecve(t)}
	check := func(how string, err error) {
		t.Helper()
		var died *DiedError
		if !errors.As(err, &died) || died.Status.Signal() != unix.SIGSYS || !strings.Contains(err.Error(), "seccomp profile") {
			t.Errorf("%s: %v", how, err)
		}
	}
	plan, err := Decide(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = plan.Start(context.Background())
	check("start", err)
	w, err := Create(context.Background(), c, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	check("start of one that waited", w.Start())
	w.Wait()
}

func TestStartOfAContainerThatWasKilled(t *testing.T) {
	w, err := Create(context.Background(), Config{ID: "t", Rootfs: rootfs.Bundle{Path: busybox(t)}, Spec: testSpec("echo", "x")}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.Kill()
	var died *DiedError // if it dies while the FIFO is opened
	if err := w.Start(); !errors.Is(err, ErrDead) && !errors.As(err, &died) {
		t.Errorf("%v", err)
	}
	w.Wait()
}

func TestCancelledStartIsNotDeath(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	plan, err := Decide(Config{ID: "t", Rootfs: rootfs.Bundle{Path: busybox(t)}, Spec: testSpec("echo", "x"), Cloned: func(pid int) error {
		cancel()
		for f := processStat(pid); f != nil && f[0] != "Z"; f = processStat(pid) {
			time.Sleep(time.Millisecond)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A program that was executed and is over, or killed, has started; so has one
// that runs, or is not there any more.
func TestEndedProgramHadStarted(t *testing.T) {
	for _, script := range []string{"exit 3", "kill -KILL $$", "sleep 100"} {
		cmd := exec.Command("/bin/sh", "-c", script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for script != "sleep 100" && processStat(cmd.Process.Pid)[0] != "Z" {
			time.Sleep(time.Millisecond)
		}
		if err := died(cmd.Process.Pid); err != nil {
			t.Errorf("%s: %v", script, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
		if err := died(cmd.Process.Pid); err != nil {
			t.Errorf("%s, reaped: %v", script, err)
		}
	}
}

// The first process of a plan that hands itself over is the one that is reaped.
func TestDeathBeforeHandover(t *testing.T) {
	l := &launch{plan: &Plan{}, child: &child.Process{Status: unix.WaitStatus(unix.SIGKILL)}}
	var d *DiedError
	if err := l.died(); !errors.As(err, &d) || d.Status.Signal() != unix.SIGKILL {
		t.Errorf("%v", err)
	}
}

func BenchmarkDied(b *testing.B) {
	cmd := exec.Command("/bin/sleep", "100")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	time.Sleep(50 * time.Millisecond)
	for b.Loop() {
		if err := died(cmd.Process.Pid); err != nil {
			b.Fatal(err)
		}
	}
}
