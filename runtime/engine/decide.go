package engine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/step"
)

// Numbers of the descriptors that a plan speaks of. The parent moves what it
// opened for the child to numbers above lowFD (see files), so no step treads on
// a descriptor that a later one needs.
const (
	firstFD = 3  // the error pipe, once all others are closed
	lowFD   = 16 // the parent's own begin here
)

// Plan is a decided container: data until Start.
type Plan struct {
	config Config
	child  *step.Plan
	files  files
	pidNS  string // namespace file to begin in, "": none

	stateDir string // Create: holds the FIFO that start opens

	target     *os.File // Exec: pidfd of the process whose namespaces are joined
	execCgroup *os.File // Exec: the cgroup it begins in
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
func Decide(c Config) (*Plan, error) { return decide(c, host{c.Made}, false) }

type host struct{ made []string }

// Kind implements rootfs.Facts.
func (h host) Kind(path string) byte {
	if slices.Contains(h.made, path) {
		return 'f'
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return 'd'
	}
	return 'f'
}

// decide with waiting set makes a container that waits for start.
func decide(c Config, f rootfs.Facts, waiting bool) (*Plan, error) {
	if err := check(&c); err != nil {
		return nil, err
	}
	d := &decision{Plan: &Plan{config: c, child: &step.Plan{}}, spec: c.Spec, facts: f, root: &step.Result{Name: "root"}}
	// The order is the story; each group says why it stands where it stands.
	for _, part := range []func() error{
		d.leaveParent, d.namespaces, d.rootAndMounts, d.kernelFiles, d.enter,
		func() error { return d.limitsAndWait(waiting) }, d.identity, d.program,
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
	for _, list := range [][]string{s.Process.Args, s.Process.Env, {s.Hostname}} {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return fmt.Errorf("%q holds a NUL byte", v)
			}
		}
	}
	if _, ok := namespace(s, specs.MountNamespace); !ok {
		return errors.New("a container without a mount namespace of its own is not supported")
	}
	return nil
}

type decision struct {
	*Plan
	spec  *specs.Spec
	facts rootfs.Facts
	root  *step.Result
}

func (d *decision) add(s ...step.Step) { d.child.Add(s...) }

// at is an argument whose number Start fills in.
func at(text string, f *file) *step.Arg {
	f.arg = step.Later(text)
	return f.arg
}

// leaveParent: memory first, so that nothing after it can reach the host's
// binary; then what ties a process to its caller.
func (d *decision) leaveParent() error {
	d.add(step.LeaveMemory{}, step.HideBinary{}, step.Umask{}, step.NewSession{})
	if d.spec.Process.Terminal {
		return nil // Terminal makes the streams
	}
	for i, f := range []*file{&d.files.stdin, &d.files.stdout, &d.files.stderr} {
		d.add(dup{at("parent's "+[]string{"stdin", "stdout", "stderr"}[i], f), i})
	}
	return nil
}

// namespaces: those by path are joined, the others began with clone3. The
// cgroup namespace comes after, for its root is where the process is by then.
func (d *decision) namespaces() error {
	for i := range d.spec.Linux.Namespaces {
		n := &d.spec.Linux.Namespaces[i]
		flag := cloneFlag(n.Type)
		switch {
		case flag == 0:
			return fmt.Errorf("unknown namespace %q", n.Type)
		case n.Path != "" && n.Type == specs.PIDNamespace:
			d.pidNS = n.Path // for children of the caller: pid_namespaces(7)
		case n.Path != "":
			d.files.ns = append(d.files.ns, file{path: n.Path, flag: flag})
		case n.Type != specs.CgroupNamespace:
			d.child.CloneFlags |= flag
		}
	}
	for i := range d.files.ns {
		f := &d.files.ns[i]
		d.add(setNS{at(f.path, f), f.flag, f.path})
	}
	if n, ok := namespace(d.spec, specs.NetworkNamespace); ok && n.Path == "" {
		d.add(step.Loopback{})
	}
	prop := uint64(unix.MS_REC | unix.MS_PRIVATE)
	if rootfs.Shares(d.spec.Mounts) {
		prop = unix.MS_REC | unix.MS_SLAVE
	}
	d.add(step.Propagation{Flags: prop})
	if n, ok := namespace(d.spec, specs.CgroupNamespace); ok && n.Path == "" {
		d.add(step.Unshare{Flags: unix.CLONE_NEWCGROUP})
	}
	return nil
}

// rootAndMounts: trees of the host are taken while its paths still mean the
// host's, then the root is mounted and filled in the order of the spec.
func (d *decision) rootAndMounts() error {
	early, late, err := rootfs.Mounts(d.spec.Mounts, d.root, d.facts)
	if err != nil {
		return err
	}
	d.add(early...)
	d.add(d.config.Rootfs.Step(d.root))
	d.add(late...)
	dev, err := rootfs.Devices(d.spec, d.root)
	if err != nil {
		return err
	}
	d.add(dev...)
	if d.spec.Process.Cwd != "/" {
		d.add(step.MakeDir{Root: d.root, Path: d.spec.Process.Cwd, Mode: 0o755})
	}
	if d.spec.Process.Terminal {
		t := terminal{step.Terminal{Root: d.root, UID: d.spec.Process.User.UID, Console: true}, at("parent's socket", &d.files.terminal)}
		if s := d.spec.Process.ConsoleSize; s != nil {
			t.Rows, t.Columns = uint16(s.Height), uint16(s.Width)
		}
		d.add(t)
	}
	return nil
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
		d.add(step.WriteFile{Path: "/proc/sys/" + strings.ReplaceAll(k, ".", "/"), Value: d.spec.Linux.Sysctl[k]})
	}
	if adj := d.spec.Process.OOMScoreAdj; adj != nil {
		d.add(step.WriteFile{Path: "/proc/self/oom_score_adj", Value: fmt.Sprint(*adj)})
	}
	d.add(rootfs.Protect(d.spec.Linux.MaskedPaths, d.spec.Linux.ReadonlyPaths, d.root, d.facts)...)
	if d.spec.Root != nil && d.spec.Root.Readonly {
		d.add(step.SetAttr{Mount: d.root, Attr: step.MountAttr{Set: unix.MOUNT_ATTR_RDONLY}, Why: "the root is read-only from here on"})
	}
	return nil
}

func (d *decision) enter() error {
	d.add(step.PivotRoot{Root: d.root})
	return nil
}

// limitsAndWait: the parent's share is awaited as late as possible; then every
// descriptor of the host is closed, before a path of the container is followed.
func (d *decision) limitsAndWait(waiting bool) error {
	limits, err := rlimits(d.spec.Process.Rlimits)
	if err != nil {
		return err
	}
	d.add(limits...)
	if d.config.Network != nil || d.config.Cloned != nil || d.config.filtered() {
		d.add(await{at("pipe", &d.files.sync), at("parent's end", &d.files.syncPeer), "the network and the device filter"})
	}
	closing := step.CloseFrom{First: firstFD, Err: child.ErrFD}
	if !waiting {
		d.add(closing)
		return nil
	}
	dir := &step.Result{Name: "state"}
	closing.Dir = dir
	d.add(closeFrom{closing, at("state directory", &d.files.state)})
	d.add(step.AwaitStart{Ready: step.From(child.ErrFD), Dir: step.From(dir), Name: startFIFO, Err: child.ErrFD})
	return nil
}

// identity: from here on the process has less and less rights, in the order in
// which each right is still needed for the next.
func (d *decision) identity() error {
	p := d.spec.Process
	c, err := capabilities(p.Capabilities)
	if err != nil {
		return err
	}
	d.add(identitySteps(p, c)...)
	return nil
}

func identitySteps(p *specs.Process, c *capSets) []step.Step {
	out := []step.Step{step.Chdir{Path: p.Cwd}}
	if c != nil && c.drop != 0 {
		out = append(out, step.DropBounding{Drop: c.drop})
	}
	out = append(out, step.Credentials{UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids,
		KeepCaps: c != nil && p.User.UID != 0 && c.Permitted != 0})
	if c != nil {
		out = append(out, c.Capabilities)
	}
	if p.NoNewPrivileges {
		out = append(out, step.NoNewPrivs{})
	}
	mask := uint32(0o022)
	if p.User.Umask != nil {
		mask = *p.User.Umask
	}
	return append(out, step.Umask{Mask: mask})
}

func (d *decision) program() error {
	if d.config.Init {
		d.add(step.Reaper{Terminal: d.spec.Process.Terminal})
	}
	d.add(programSteps(d.spec.Process)...)
	return nil
}

func programSteps(p *specs.Process) []step.Step {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return []step.Step{step.Signals{}, step.Exec{Args: p.Args, Env: p.Env, Path: strings.Split(path, ":")}}
}
