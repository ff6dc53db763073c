package cgroups

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Manager makes, changes and removes the cgroup of one container of an OCI
// runtime.
type Manager interface {
	// Print writes what Apply does, as shell commands.
	Print(w io.Writer)
	// Apply makes the cgroup and opens its directory, for CLONE_INTO_CGROUP;
	// the caller closes it. Without file and error the container has to do
	// without: an unprivileged user may make none, and no limit asks for one.
	// A user whose session is not below his systemd's gets EACCES of clone3
	// for a scope: the process is then the placeholder itself, or Attach moves it.
	Apply(hold Placeholder) (*os.File, error)
	// Settle sets what had to wait until the container's process is alone in the cgroup.
	Settle() error
	// Update changes the limits of a live cgroup, see the function Update.
	Update(l Limits) error
	// Attach moves a process into the cgroup, or into one below it. It costs
	// milliseconds where CLONE_INTO_CGROUP costs none, but works across the
	// borders of a delegation, by systemd.
	Attach(pid int, sub string) error
	// Remove ends what is left in the cgroup and removes it; one that is gone is no error.
	Remove() error
	// Dir is the cgroup's directory, "" if the container has to do without.
	Dir() string
	// State is what a later process needs to go on with the cgroup.
	State() State
}

// Placeholder gives a process that is to be the first in the cgroup: a scope of
// systemd cannot be made without. The caller ends it when the container's own
// process is in the cgroup, or it is that process itself, waiting. The cgroupfs
// driver does not ask.
type Placeholder func() (pid int, err error)

// Request is the cgroup that an OCI configuration asks for.
type Request struct {
	ID       string // of the container
	Path     string // linux.cgroupsPath
	Limits   Limits
	Owner    *int // host uid of the container's root, if the container may write to its cgroup mount
	Rootless bool // not root of the initial user namespace: do without a cgroup if need be, ask the user's systemd

	// Systemd asks the driver of that name: the container becomes a scope, and
	// Path is SLICE:PREFIX:NAME. Annotations org.systemd.property.* are further
	// properties.
	Systemd     bool
	Annotations map[string]string
}

// State of a manager, for a file: whoever removes a container knows nothing
// else of how its cgroup was made.
type State struct {
	Dir     string `json:"dir"`
	Unit    string `json:"unit,omitempty"`    // of systemd; without, the driver is cgroupfs
	UserBus string `json:"userBus,omitempty"` // where that systemd is reached, if it is a user's
}

// Manager goes on with a cgroup, by the driver that made it. Apply and Print
// are for new ones.
func (s State) Manager() Manager {
	if s.Unit != "" {
		return &scope{at: s}
	}
	return &cgroupfs{dir: s.Dir}
}

// New decides what Apply will do; nothing is touched. A path that begins with /
// is below the cgroup mount, another one beside the caller's cgroup, an empty
// one is the id.
func New(r Request) (Manager, error) {
	h, err := Find()
	if err != nil {
		if r.Rootless && !r.Systemd && r.optional() {
			return &cgroupfs{}, nil
		}
		return nil, err
	}
	return h.Manager(r)
}

// optional: nothing in the request needs a cgroup.
func (r *Request) optional() bool { return r.Path == "" && !r.Limits.needsController() }

// Manager is New on a host that was found before.
func (h *Host) Manager(r Request) (Manager, error) {
	if r.Systemd {
		return h.scope(r)
	}
	dir := h.place(r.Path, r.ID)
	if dir == h.Mount {
		return nil, fmt.Errorf("cgroupsPath %q is the root cgroup, which takes no limits", r.Path)
	}
	at := h.at("/") // root can switch on what no cgroup on the way has
	if r.Rootless {
		at = h.at(h.existing(filepath.Dir(dir)))
	}
	limits := r.Limits
	if m := limits.PidsMax; m != nil && *m < 0 && at.need("pids") != nil {
		limits.PidsMax = nil // no limit is what there is without the controller (podman --pids-limit 0)
	}
	p, err := newPlan(h.Mount, dir, &limits)
	if err != nil {
		return nil, err
	}
	for _, c := range p.need {
		err := at.need(c)
		if err != nil && r.Rootless && r.Path == "" && unix.Access(at.Dir(""), unix.W_OK) != nil {
			return nil, noPermission(err) // the controller is the lesser trouble
		}
		if err != nil {
			return nil, err
		}
	}
	p.want(at.Controllers, at.Controllers...) // all, as runc: an update may want any
	p.Owner, p.Private = r.Owner, true
	return &cgroupfs{dir: dir, plan: p, rootless: r.Rootless, nameless: r.Path == "", optional: r.optional()}, nil
}

// at is the host as it looks from another parent.
func (h *Host) at(parent string) *Host {
	if parent == h.Parent {
		return h
	}
	o := *h
	o.Parent = parent
	o.Controllers = strings.Fields(flatValue(o.Dir(""), "cgroup.controllers"))
	return &o
}

// place is where a container's cgroup is, by runc's rules. The caller's own
// cgroup has a process, so that it cannot hand controllers down; its parent can.
func (h *Host) place(path, id string) string {
	if filepath.IsAbs(path) {
		return filepath.Join(h.Mount, filepath.Clean(path))
	}
	if path == "" {
		path = id
	}
	return filepath.Join(h.Mount, filepath.Dir(h.Own), filepath.Clean("/"+path))
}

// existing is the next cgroup upwards that is there, below Mount.
func (h *Host) existing(dir string) string {
	for len(dir) > len(h.Mount) {
		if _, err := os.Stat(dir); err == nil {
			return strings.TrimPrefix(dir, h.Mount)
		}
		dir = filepath.Dir(dir)
	}
	return "/"
}

// cgroupfs is the driver that writes to the files itself.
type cgroupfs struct {
	dir      string
	plan     *Plan
	rootless bool
	nameless bool // no path was asked for
	optional bool // nor any limit
}

func (m *cgroupfs) Dir() string  { return m.dir }
func (m *cgroupfs) State() State { return State{Dir: m.dir} }

func (m *cgroupfs) Print(w io.Writer) {
	if m.plan != nil {
		m.plan.Print(w)
	}
}

func (m *cgroupfs) Apply(Placeholder) (*os.File, error) {
	if m.plan == nil {
		return nil, nil
	}
	return m.finish(m.plan.Apply())
}

// Settle implements Manager: nothing had to wait.
func (m *cgroupfs) Settle() error { return nil }

// finish decides what a user without permission gets.
func (m *cgroupfs) finish(f *os.File, err error) (*os.File, error) {
	denied := errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
	switch {
	case !denied || !m.rootless:
		return f, err
	case m.optional:
		m.dir, m.plan = "", nil
		return nil, nil
	case m.nameless:
		return nil, noPermission(err)
	}
	return nil, fmt.Errorf("unable to apply cgroup configuration: %w", err)
}

func noPermission(err error) error {
	return fmt.Errorf("rootless needs no limits + no cgrouppath when no permission is granted for cgroups: %w", err)
}

func (m *cgroupfs) Update(l Limits) error {
	if m.dir == "" {
		if l.needsController() {
			return errors.New("the container has no cgroup: it was started by a user who may make none")
		}
		return nil
	}
	return Update(m.dir, l)
}

func (m *cgroupfs) Attach(pid int, sub string) error {
	dir, err := below(m.dir, sub)
	if err != nil {
		return err
	}
	return write(dir, "cgroup.procs", strconv.Itoa(pid))
}

func (m *cgroupfs) Remove() error {
	if m.dir == "" {
		return nil
	}
	if err := Remove(m.dir); err != nil && !gone(err) {
		return err
	}
	return nil
}

// below is a cgroup of that name in dir, never one outside.
func below(dir, sub string) (string, error) {
	if dir == "" {
		return "", errors.New("the container has no cgroup")
	}
	for _, e := range strings.Split(sub, "/") {
		if e == ".." {
			return "", fmt.Errorf("bad sub cgroup path: %s", sub)
		}
	}
	return filepath.Join(dir, sub), nil
}

// OpenExec opens the cgroup in which a further process of a container is to
// begin: sub below the container's cgroup if it is given. Else the container's
// own, or, when that is gone or holds no processes because it hands controllers
// to cgroups below it (the container runs an init system, say), the one in
// which the container's first process is by now.
func OpenExec(dir, sub string, first int) (*os.File, error) {
	at, err := below(dir, sub)
	if err != nil {
		return nil, err
	}
	if sub != "" || !inner(at) {
		f, err := os.Open(at)
		if err == nil || sub != "" || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	h, err := Find()
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/" + strconv.Itoa(first) + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup of the container's process: %w", err)
	}
	return os.Open(filepath.Join(h.Mount, unified(string(own))))
}

// inner tells that a process in this cgroup would be EBUSY (cgroup-v2.rst "No
// Internal Process Constraint"): it hands a controller down that counts by
// process, or another one to cgroups which have processes.
func inner(dir string) bool {
	on := strings.Fields(flatValue(dir, "cgroup.subtree_control"))
	for _, c := range on {
		switch c {
		case "cpu", "cpuset", "perf_event", "pids": // by thread
		default:
			return true
		}
	}
	if len(on) == 0 {
		return false
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		sub := filepath.Join(dir, e.Name())
		if t := cgroupType(sub); (t == "domain" || t == "domain threaded") && flat(flatValue(sub, "cgroup.events"))["populated"] == 1 {
			return true
		}
	}
	return false
}
