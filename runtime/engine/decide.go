package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/step"
)

// Numbers of the descriptors that a plan speaks of. The parent moves what it
// opened for the child to numbers from Plan.lowFD on, so no step treads on a
// descriptor that a later one needs.
const (
	firstFD = 3  // the first that a program does not expect
	lowFD   = 16 // the parent's own begin here, or above what is preserved
)

// Plan is a decided container: data until Start.
type Plan struct {
	config Config
	child  *step.Plan
	files  files
	takes  []*rootfs.Take // trees of the host that the parent takes
	phases []phase        // the parent's share, in order
	pidNS  string         // namespace file to begin in, "": none
	hands  bool           // the plan hands itself over to a new process
	lowFD  int
	copyUp []string

	listener *step.Result // takes the descriptor of seccomp notifications
	stateDir string       // Create: holds the FIFO that start opens
	calls    int          // of child, known when it was cloned

	target     *os.File // Exec: pidfd of the process whose namespaces are joined
	execCgroup *os.File // Exec: the cgroup it begins in
}

// Warnings are what is odd in the configuration and no error.
func (p *Plan) Warnings() []string { return p.config.warnings }

// phase is something that the parent does while the child waits for it. With
// tell the child says when it is there; else it is done as early as possible.
type phase struct {
	tell bool
	act  func(l *launch) error
}

// files are descriptors that a plan needs and Start opens: numbers in the
// child are known only then.
type files struct {
	stdin, stdout, stderr file
	sync, syncPeer        file   // the parent's "go on": read end, write end
	terminal              file   // socket for the master
	ns                    []file // joined namespaces
	state                 file   // directory with the start FIFO
}

// file is a place in the plan that a descriptor's number fills.
type file struct {
	arg  *step.Arg
	path string // opened by Start; "": Start has another source
	flag uint64 // of setns
}

// Decide lays down all steps for a container. It looks at the host, and touches nothing.
func Decide(c Config) (*Plan, error) { return decide(c, newHost(&c), "") }

// decide with a directory for a FIFO makes a container that waits for start.
func decide(c Config, f facts, dir string) (*Plan, error) {
	if err := check(&c); err != nil {
		return nil, err
	}
	d := &decision{Plan: &Plan{config: c, child: &step.Plan{}, stateDir: dir, lowFD: max(lowFD, firstFD+c.PreserveFDs+8)},
		spec: c.Spec, facts: f, root: &step.Result{Name: "root"}}
	// The order is the story; each group says why it stands where it stands.
	for _, part := range []func() error{
		d.leaveParent, d.namespaces, d.userNamespace, d.rootAndMounts, d.kernelFiles, d.enter,
		d.limits, d.parentsShare, d.closeAll, d.identity, d.program,
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return d.Plan, nil
}

func check(c *Config) error {
	s := c.Spec
	switch {
	case s == nil || s.Process == nil || s.Linux == nil:
		return errors.New("the spec has no process or no linux section")
	case len(s.Process.Args) == 0 || s.Process.Args[0] == "":
		return errors.New("no command is given")
	case !strings.HasPrefix(s.Process.Cwd, "/"):
		return fmt.Errorf("working directory %q is not an absolute path", s.Process.Cwd)
	}
	if _, ok := Namespace(s.Linux, specs.MountNamespace); !ok && c.Rootfs != nil && len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) > 0 {
		return errors.New("unable to restrict sys entries without a private MNT namespace")
	}
	for _, list := range [][]string{s.Process.Args, s.Process.Env, {s.Hostname, s.Domainname, s.Process.Cwd}} {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return fmt.Errorf("%q holds a NUL byte", v)
			}
		}
	}
	return nil
}

type decision struct {
	*Plan
	spec  *specs.Spec
	facts facts
	root  *step.Result
	tree  *rootfs.Tree
	set   rootfs.Setting
	met   bool         // an Await was laid down
	sync  *step.Result // the pipe, after closeAll moved it
	state *step.Result // the state directory, likewise
	fifo  *step.Result // the state directory, where the child takes it itself
	bare  bool         // the binary is not hidden yet
}

func (d *decision) add(s ...step.Step) { d.child.Add(s...) }

func (d *decision) warn(format string, args ...any) {
	d.config.warnings = append(d.config.warnings, fmt.Sprintf(format, args...))
}

// meet lets the child wait until the parent has done something.
func (d *decision) meet(tell bool, why string, act func(l *launch) error) {
	if tell {
		d.add(step.Tell{FD: step.From(child.ErrFD), That: why})
	}
	switch {
	case d.sync != nil:
		d.add(step.Await{FD: step.From(d.sync), For: why, Again: true})
	default:
		if d.files.sync.arg == nil {
			at("pipe", &d.files.sync)
			at("parent's end", &d.files.syncPeer)
		}
		d.add(await{d.files.sync.arg, d.files.syncPeer.arg, why, d.met})
		d.met = true
	}
	d.phases = append(d.phases, phase{tell, act})
}

// at is an argument whose number Start fills in.
func at(text string, f *file) *step.Arg {
	f.arg = step.Later(text)
	return f.arg
}

// leaveParent: memory first, so that nothing after it can reach the host's
// binary; then what ties a process to its caller. Without rights of its own the
// child can hide the binary only in the user namespace that it joins first of all.
func (d *decision) leaveParent() error {
	d.add(step.LeaveMemory{})
	n, user := Namespace(d.spec.Linux, specs.UserNamespace)
	if d.bare = !d.facts.Rights() && !(user && n.Path == ""); !d.bare {
		d.hide()
	}
	d.add(step.Umask{}, step.NewSession{})
	if d.spec.Process.Terminal {
		return nil // Terminal makes the streams
	}
	for i, f := range []*file{&d.files.stdin, &d.files.stdout, &d.files.stderr} {
		d.add(dup{at("parent's "+[]string{"stdin", "stdout", "stderr"}[i], f), i})
	}
	return nil
}

func (d *decision) hide() {
	d.add(step.HideBinary{})
	d.bare = false
}

// rootAndMounts: trees of the host are taken while its paths still mean the
// host's, then the root is mounted and filled in the order of the spec.
func (d *decision) rootAndMounts() error {
	if !d.config.NoNewKeyring {
		d.add(step.Keyring{Name: "_ses." + d.config.ID, First: true})
	}
	d.add(d.tree.Early...)
	root, err := d.config.Rootfs.Step(d.root, d.facts)
	if err != nil {
		return err
	}
	d.add(root)
	for _, s := range d.tree.Late {
		if m, ok := s.(rootfs.MapHere); ok {
			d.meet(true, m.String(), func(l *launch) error { return l.mapTree(m) })
			continue
		}
		d.add(s)
	}
	dev, err := d.set.Devices(d.spec, d.root)
	if err != nil {
		return err
	}
	d.add(dev...)
	if d.spec.Process.Cwd != "/" {
		d.add(step.MakeDir{Root: d.root, Path: d.spec.Process.Cwd, Mode: 0o755})
	}
	if d.spec.Process.Terminal {
		d.add(d.terminal(step.Terminal{Root: d.root, Console: true}))
	}
	return nil
}

func (d *decision) terminal(t step.Terminal) terminal {
	p := d.spec.Process
	t.UID, t.PlainLF = p.User.UID, d.config.PlainLF
	if s := p.ConsoleSize; s != nil {
		t.Rows, t.Columns = uint16(s.Height), uint16(s.Width)
	}
	return terminal{t, at("parent's socket", &d.files.terminal)}
}

// kernelFiles: written through the host's /proc, which is not read-only, in
// the container's namespaces. Then paths are protected, the root last of all.
func (d *decision) kernelFiles() error {
	if d.spec.Hostname != "" {
		d.add(step.Hostname{Name: d.spec.Hostname})
	}
	if d.spec.Domainname != "" {
		d.add(step.Domainname{Name: d.spec.Domainname})
	}
	for _, k := range sorted(d.spec.Linux.Sysctl) {
		d.add(step.WriteFile{Path: sysctlPath(k), Value: d.spec.Linux.Sysctl[k]})
	}
	if l := d.config.Labels; l.Exec != "" {
		d.add(step.ExecLabel{File: l.ExecFile, Value: l.Exec})
	}
	if len(d.tree.CopyUp) > 0 || d.config.Mounted != nil {
		d.copyUp = d.tree.CopyUp
		d.meet(true, "the root is filled", (*launch).mounted)
	}
	d.add(rootfs.Protect(d.spec, d.root, d.facts)...)
	d.add(d.tree.After...)
	if d.spec.Root != nil && d.spec.Root.Readonly {
		d.add(step.SetAttr{Mount: d.root, Attr: step.MountAttr{Set: unix.MOUNT_ATTR_RDONLY}, Why: "the root is read-only from here on"})
	}
	return nil
}

// sysctlPath: a name with slashes keeps its dots (sysctl.d(5)).
func sysctlPath(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return "/proc/sys/" + name
}

func (d *decision) enter() error {
	_, own := Namespace(d.spec.Linux, specs.MountNamespace)
	switch {
	case !own:
		d.add(step.Chroot{Root: d.root})
	case d.config.NoPivot:
		d.add(step.MoveRoot{Root: d.root, LetGo: d.facts.KernelMounts()})
	default:
		d.add(step.PivotRoot{Root: d.root})
	}
	if p := d.spec.Linux.RootfsPropagation; p != "" {
		flags := rootfs.Propagation(p)
		if flags == 0 {
			return fmt.Errorf("rootfsPropagation=%s is not supported", p)
		}
		if own && flags&unix.MS_PRIVATE == 0 {
			d.add(step.Propagation{Flags: flags})
		}
	}
	return nil
}

// parentsShare is awaited as late as possible: both work side by side till then.
func (d *decision) parentsShare() error {
	c := &d.config
	if c.Network != nil || c.Cloned != nil || c.Resctrl != nil || c.filtered() {
		d.meet(false, "the parent's share", (*launch).began)
	}
	return nil
}

// closeAll closes every descriptor of the host before a path of the container is
// followed.
func (d *decision) closeAll() error {
	keep := []step.Kept{{FD: step.From(child.ErrFD), As: child.ErrFD}}
	closing := closeFrom{step.CloseFrom{First: firstFD + d.config.PreserveFDs}, nil}
	switch {
	case d.stateDir == "":
	case d.fifo != nil:
		d.state = &step.Result{Name: "state"}
		keep = append(keep, step.Kept{FD: step.From(d.fifo), As: d.state})
	default:
		d.state = &step.Result{Name: "state"}
		closing.late = append(closing.late, lateKept{at("state directory", &d.files.state), d.state})
	}
	if d.config.Notify != nil && d.config.Seccomp != nil && d.config.Seccomp.Notify {
		if d.files.sync.arg == nil { // nothing was awaited yet: the write end goes here
			at("pipe", &d.files.sync)
		}
		d.sync = &step.Result{Name: "pipe"}
		closing.late = append(closing.late, lateKept{d.files.sync.arg, d.sync})
	}
	closing.Keep = keep
	d.add(closing)
	return nil
}

// program ends the plan. A container that waits has to know before that its
// program can be executed, and nothing but the FIFO is touched between.
func (d *decision) program() error {
	p := d.spec.Process
	if d.config.Init {
		d.add(step.Reaper{Terminal: p.Terminal}, step.Signals{})
	}
	path := searchPath(p)
	if d.stateDir != "" {
		d.add(step.AwaitStart{Ready: step.From(child.ErrFD), Dir: step.From(d.state), Name: StartFIFO, Err: child.ErrFD})
		d.add(step.Exec{File: d.config.File, Args: p.Args, Env: p.Env, Path: path})
		return nil
	}
	d.add(step.Exec{File: d.config.File, Args: p.Args, Env: p.Env, Path: path})
	return nil
}

const maxSearch = 1000 // directories of a PATH; each costs the plan two calls

func searchPath(p *specs.Process) []string {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	list := strings.Split(path, ":")
	return list[:min(len(list), maxSearch)]
}
