// Package engine makes containers: it turns an OCI spec into a plan of kernel
// steps (Decide), prints the plan or runs it (Plan.Print, Plan.Start), and
// joins running containers (Exec).
//
// The tour: Decide looks at the host once and lays down every step. Start
// applies the cgroup, clones the first process (package child), and does the
// parent's share, the network, while the child builds its root. Then the
// child becomes the program.
package engine

import (
	"errors"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/step"
)

// Config is what a container is to be. The spec says what runs, the other
// fields what a spec has no words for.
type Config struct {
	ID     string
	Spec   *specs.Spec
	Rootfs rootfs.Root

	Cgroup  *cgroups.Plan             // applied before the process begins in it; nil: the caller's cgroup
	Devices []specs.LinuxDeviceCgroup // device filter of the cgroup, in order; none: no filter

	// Streams of the process; nil is /dev/null. With Spec.Process.Terminal
	// they are the terminal instead. They stay the caller's.
	Stdin, Stdout, Stderr *os.File

	// Network is called with the pid while the child builds its root; the
	// program is executed only after it returned nil.
	Network func(pid int) error

	// Cloned is called with the pid as soon as the process is there, before
	// Network; likewise.
	Cloned func(pid int) error

	// Made are files that do not exist yet when the plan is decided, and will
	// when it is started: sources of bind mounts, such as resolv.conf.
	Made []string

	Init  bool // process 1 is berth's reaper, the program its child
	Trace func(step string, err error, took time.Duration)
}

// filtered tells that the cgroup gets a device filter.
func (c *Config) filtered() bool { return c.Cgroup != nil && len(c.Devices) > 0 }

// ErrNotFound and ErrNotExecutable are the reasons for a shell's exit codes 127
// and 126: the program is not there; it is there and cannot be executed.
var (
	ErrNotFound      = errors.New("executable file not found in the container")
	ErrNotExecutable = errors.New("cannot be executed")
)

// StartError is a container that did not come to run: the step that failed.
type StartError struct {
	Step   string     // as the plan prints it
	Errno  unix.Errno // 0: not a system call
	Object string     // what it was about
	reason error
}

func (e *StartError) Error() string { return e.Object + ": " + e.reason.Error() }

// Unwrap gives ErrNotFound, ErrNotExecutable, or the errno.
func (e *StartError) Unwrap() []error { return []error{e.reason, e.Errno} }

// startError puts the failure of a plan's call into the words of its step.
func startError(s step.Step, call step.Call, errno unix.Errno) *StartError {
	e := &StartError{Step: s.String(), Errno: errno, Object: s.String(), reason: errno}
	if x, ok := s.(step.Exec); ok {
		return execError(e, x, call)
	}
	if s, ok := s.(step.Chdir); ok {
		e.Object = "working directory " + s.Path
	}
	if call.Name != "mount" && call.Name != "sethostname" {
		e.Object += ": " + call.Name
	}
	return e
}

func execError(e *StartError, x step.Exec, call step.Call) *StartError {
	e.Object = "execute " + x.Args[0]
	switch {
	case e.Errno == unix.ENOENT && call.Name == "execve" && (len(x.Path) == 0 || containsSlash(x.Args[0])):
		// The file is there: faccessat before this call found it.
		e.reason = notFound{"its interpreter (the first line of a script, or the ELF interpreter of a program for another C library) is missing in the container: no such file or directory"}
	case e.Errno == unix.ENOENT && containsSlash(x.Args[0]):
		e.reason = notFound{"no such file or directory in the container"}
	case e.Errno == unix.ENOENT || e.Errno == unix.ENOTDIR:
		e.reason = notFound{"executable file not found in $PATH"}
	case e.Errno == unix.EACCES || e.Errno == unix.ENOEXEC || e.Errno == unix.EISDIR || e.Errno == unix.ELOOP || e.Errno == unix.EPERM:
		e.reason = notExecutable{e.Errno}
	}
	return e
}

func containsSlash(s string) bool {
	for i := range len(s) {
		if s[i] == '/' {
			return true
		}
	}
	return false
}

type notFound struct{ text string }

func (e notFound) Error() string        { return e.text }
func (e notFound) Is(target error) bool { return target == ErrNotFound }

type notExecutable struct{ errno unix.Errno }

func (e notExecutable) Error() string {
	if e.errno == unix.ENOEXEC {
		return "exec format error (not a program, a script without #! line, or one for another architecture)"
	}
	return e.errno.Error()
}
func (e notExecutable) Is(target error) bool { return target == ErrNotExecutable }
