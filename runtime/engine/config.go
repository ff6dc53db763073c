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
	"fmt"
	"io"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/seccomp"
	"github.com/berth-run/berth/runtime/step"
)

// Config is what a container is to be. The spec says what runs, the other
// fields what a spec has no words for.
type Config struct {
	ID     string
	Spec   *specs.Spec
	Rootfs rootfs.Root

	Cgroup  Cgroup               // applied before the process begins in it; nil: the caller's cgroup
	Devices []cgroups.DeviceRule // device filter of the cgroup, in order; none: no filter

	// Streams of the process; nil is /dev/null. With Spec.Process.Terminal
	// they are the terminal instead. They stay the caller's.
	Stdin, Stdout, Stderr *os.File

	// Network is called with the pid while the child builds its root; the
	// program is executed only after it returned nil.
	Network func(pid int) error

	// Cloned is called with the pid as soon as the process is there, before
	// Network; likewise.
	Cloned func(pid int) error

	// Resctrl takes the process into its group of cache and memory bandwidth before
	// the program is executed; nil: it stays in the caller's.
	Resctrl Resctrl

	// Mounted is called when the process has filled its root and waits before it
	// enters it: for hooks. Paths still are the host's there.
	Mounted func(pid int) error

	// Map gives the user namespace of a spec that has one without a path its
	// mappings. nil: the caller writes them itself, which takes its privileges.
	Map func(pid int, s *specs.Linux) error

	Seccomp *seccomp.Filter
	// Notify gets the descriptor on which a filter with SCMP_ACT_NOTIFY tells of
	// calls (seccomp_unotify(2)), before the program is executed; it closes it.
	Notify func(pid int, listener *os.File) error

	File         string // the program, if it is not Process.Args[0]
	PlainLF      bool   // of a terminal: see step.Terminal
	NoPivot      bool
	NoNewKeyring bool
	PreserveFDs  int  // descriptors of the caller, from 3 on, that stay open
	NoSetgroups  bool // the user namespace forbids setgroups(2)
	Labels       Labels

	// Made are files, with a slash at the end directories, that do not exist yet
	// when the plan is decided, and will when it is started: sources of bind
	// mounts, such as resolv.conf.
	Made []string

	warnings []string

	Init bool // process 1 is berth's reaper, the program its child
	// Trace is told of every step, the caller's and the process's, once Start is
	// over: sort by the end.
	Trace func(step string, err error, began, ended time.Time)
}

// Cgroup is where a container begins: a plan of package cgroups, or a manager.
type Cgroup interface {
	Print(w io.Writer)
	Apply(hold cgroups.Placeholder) (*os.File, error)
	Settle() error
}

// Resctrl is a plan or a group of package resctrl.
type Resctrl interface {
	Print(w io.Writer)
	Enter(pid int) error
}

// Plain is a cgroup without a manager.
type Plain struct{ *cgroups.Plan }

// Apply implements Cgroup.
func (p Plain) Apply(cgroups.Placeholder) (*os.File, error) { return p.Plan.Apply() }

// Settle implements Cgroup.
func (Plain) Settle() error { return nil }

// Labels are files of the caller's /proc/self/attr and what goes into them.
type Labels struct{ ExecFile, Exec, KeyFile, Key string }

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
	Execve bool       // the program is there and may be executed, and execve failed all the same
	File   string     // the file of that execve
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
	switch s := s.(type) {
	case step.LookPath:
		return lookError(e, s)
	case step.Chdir:
		e.Object = "working directory " + s.Path
	case step.Overlay:
		if call.Name == "fsconfig" && len(call.Args) > 3 {
			e.Object += ": " + call.Args[2].Text() + " " + call.Args[3].Text()
		}
	case step.MountFS:
		if s.Ordinary && (errno == unix.ELOOP || errno == unix.ENOTDIR) {
			e.reason = ordinary{s.Type, errno}
			return e
		}
	}
	if call.Name == "openat2" && errno == unix.ENOTDIR {
		e.reason = fmt.Errorf("%w (there is a file where a directory is needed: a directory cannot be mounted on a file)", errno)
	}
	if call.Name == "move_mount" && (errno == unix.EINVAL || errno == unix.ENOTDIR) {
		e.reason = fmt.Errorf("%w (a file cannot be mounted on a directory, nor a directory on a file)", errno)
	}
	if call.Name != "mount" && call.Name != "sethostname" {
		e.Object += ": " + call.Name
	}
	return e
}

func execError(e *StartError, x step.Exec, call step.Call) *StartError {
	e.Object = "execute " + x.Args[0]
	// An execve that ends the plan found the file: faccessat before it did.
	if call.Name == "execve" && (e.Errno == unix.ENOENT || e.Errno == unix.ENOEXEC) {
		e.Execve = true
		e.File, _ = call.Args[0].String()
	}
	switch {
	case e.Execve && e.Errno == unix.ENOENT:
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

// lookError: the same words as an execve that failed.
func lookError(e *StartError, l step.LookPath) *StartError {
	return execError(e, step.Exec{Args: []string{l.Name}, Path: l.Path}, step.Call{Name: "faccessat"})
}

// ordinary is a mount of a kernel file system to which a link leads, or that is
// not on a directory: masks go by the same path.
type ordinary struct {
	fs    string
	errno unix.Errno
}

func (e ordinary) Error() string {
	return fmt.Sprintf("filesystem %q must be mounted on ordinary directory", e.fs)
}
func (e ordinary) Unwrap() error { return e.errno }

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
