// Package step has one type for each kind of kernel action that a container is
// made of, and the Plan that strings them together. A plan is data: printed by
// explain, compared with golden files, and executed by package child. Nothing
// here touches the system.
package step

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Step is one action, in the words of a reader, and the system calls it takes.
type Step interface {
	String() string // one line: what it does and to what
	Calls() []Call  // in order; never empty
}

// Plan is what the first process of a container does between clone3 and execve.
type Plan struct {
	// CloneFlags are clone3's: the namespaces that begin with the process.
	CloneFlags uint64
	Steps      []Step
}

// Add appends steps.
func (p *Plan) Add(s ...Step) { p.Steps = append(p.Steps, s...) }

// Calls is the plan flattened, with the step that each call belongs to.
func (p *Plan) Calls() (calls []Call, owner []int) {
	calls, owner = make([]Call, 0, 4*len(p.Steps)), make([]int, 0, 4*len(p.Steps))
	for i, s := range p.Steps {
		for _, c := range s.Calls() {
			calls = append(calls, c)
			owner = append(owner, i)
		}
	}
	return calls, owner
}

// Print writes the plan: a comment line for each step, its system calls below.
func (p *Plan) Print(w io.Writer) {
	fmt.Fprintln(w, p.Clone())
	for _, s := range p.Steps {
		fmt.Fprintf(w, "\n# %s\n", s)
		for _, c := range s.Calls() {
			fmt.Fprintln(w, c)
		}
	}
}

// Clone is the call that makes the process.
func (p *Plan) Clone() string {
	return "clone3({flags=" + CloneNames(p.CloneFlags) + ", exit_signal=SIGCHLD})"
}

type flagName struct {
	bit  uint64
	name string
}

func names(v uint64, table []flagName) string {
	var out []string
	for _, f := range table {
		if v&f.bit == f.bit && f.bit != 0 {
			out = append(out, f.name)
			v &^= f.bit
		}
	}
	if v != 0 || len(out) == 0 {
		out = append(out, fmt.Sprintf("%#x", v))
	}
	return strings.Join(out, "|")
}

// CloneNames prints flags of clone3, unshare and setns.
func CloneNames(v uint64) string {
	return names(v, []flagName{
		{unix.CLONE_NEWUSER, "CLONE_NEWUSER"}, {unix.CLONE_NEWNS, "CLONE_NEWNS"},
		{unix.CLONE_NEWPID, "CLONE_NEWPID"}, {unix.CLONE_NEWNET, "CLONE_NEWNET"},
		{unix.CLONE_NEWIPC, "CLONE_NEWIPC"}, {unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
		{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"}, {unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
		{unix.CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"}, {unix.CLONE_PIDFD, "CLONE_PIDFD"},
		{unix.CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"}, {unix.CLONE_PARENT, "CLONE_PARENT"},
	})
}

func mountFlags(v uint64) Arg { return Arg{Value: v, show: mountNames} }

func mountNames(a Arg) string {
	if a.Value == 0 {
		return "0"
	}
	return names(a.Value, []flagName{
		{unix.MS_RDONLY, "MS_RDONLY"}, {unix.MS_NOSUID, "MS_NOSUID"}, {unix.MS_NODEV, "MS_NODEV"},
		{unix.MS_NOEXEC, "MS_NOEXEC"}, {unix.MS_SYNCHRONOUS, "MS_SYNCHRONOUS"}, {unix.MS_DIRSYNC, "MS_DIRSYNC"},
		{unix.MS_NOATIME, "MS_NOATIME"}, {unix.MS_NODIRATIME, "MS_NODIRATIME"}, {unix.MS_RELATIME, "MS_RELATIME"},
		{unix.MS_STRICTATIME, "MS_STRICTATIME"}, {unix.MS_BIND, "MS_BIND"}, {unix.MS_REC, "MS_REC"},
		{unix.MS_SLAVE, "MS_SLAVE"}, {unix.MS_PRIVATE, "MS_PRIVATE"}, {unix.MS_SHARED, "MS_SHARED"},
		{unix.MS_UNBINDABLE, "MS_UNBINDABLE"}, {unix.MS_LAZYTIME, "MS_LAZYTIME"},
		{unix.MS_NOSYMFOLLOW, "MS_NOSYMFOLLOW"}, {unix.MS_SILENT, "MS_SILENT"},
	})
}

func openFlags(v uint64) string {
	return names(v, []flagName{
		{unix.O_PATH, "O_PATH"}, {unix.O_DIRECTORY, "O_DIRECTORY"}, {unix.O_NOFOLLOW, "O_NOFOLLOW"},
		{unix.O_RDWR, "O_RDWR"}, {unix.O_WRONLY, "O_WRONLY"}, {unix.O_CREAT, "O_CREAT"},
		{unix.O_NOCTTY, "O_NOCTTY"}, {unix.O_TRUNC, "O_TRUNC"}, {unix.O_CLOEXEC, "O_CLOEXEC"},
	})
}
