package cgroups

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Plan is a cgroup to be made.
type Plan struct {
	Dir     string   // of the container
	Enable  []string // controllers that each parent hands down
	Writes  []Write
	Owner   *int // uid that may divide the cgroup further, see delegate
	Private bool // Apply refuses a cgroup that somebody else uses
	// Trace, when set, is told of each step of Apply when it is done.
	Trace func(step string, err error, began, ended time.Time)

	parents []string // from the mount down to above Dir
	need    []string // those of Enable without which the plan fails
}

// Plan decides how a cgroup comes to be, without touching anything. path is
// relative to Parent.
func (h *Host) Plan(path string, l Limits) (*Plan, error) {
	p, err := newPlan(h.Dir(""), h.Dir(path), &l)
	if err != nil {
		return nil, err
	}
	for _, c := range p.need {
		if err := h.need(c); err != nil {
			return nil, err
		}
	}
	// These are wanted for statistics too, where they are to be had.
	p.want(h.Controllers, "cpu", "memory", "pids", "io")
	return p, nil
}

// newPlan is for a cgroup somewhere below base.
func newPlan(base, dir string, l *Limits) (*Plan, error) {
	p := &Plan{}
	p.move(base, dir)
	var err error
	p.Writes, p.need, err = l.writes()
	p.Enable = slices.Clone(p.need)
	return p, err
}

// move puts the cgroup at dir, and all above it up to base among the parents.
func (p *Plan) move(base, dir string) {
	p.Dir, p.parents = dir, nil
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		p.parents = append([]string{d}, p.parents...)
		if d == base || d == "/" {
			break
		}
	}
}

// want adds controllers that the plan can do without.
func (p *Plan) want(have []string, controllers ...string) {
	for _, c := range controllers {
		if slices.Contains(have, c) && !slices.Contains(p.Enable, c) {
			p.Enable = append(p.Enable, c)
		}
	}
}

// Print writes the plan as shell commands.
func (p *Plan) Print(w io.Writer) {
	for _, d := range p.parents {
		if len(p.Enable) > 0 {
			fmt.Fprintf(w, "echo +%s > %s/cgroup.subtree_control\n", strings.Join(p.Enable, " +"), d)
		}
	}
	fmt.Fprintf(w, "mkdir -p %s\n", p.Dir)
	for _, v := range p.Writes {
		fmt.Fprintln(w, v.shell(p.Dir))
	}
	if p.Owner != nil {
		fmt.Fprintf(w, "chown %d %s && cd %[2]s && chown -f %[1]d $(cat %[3]s)\n", *p.Owner, p.Dir, delegateList)
	}
}

func (v Write) shell(dir string) string {
	echo := fmt.Sprintf("echo %s > %s/%s", v.Value, dir, v.File)
	switch {
	case v.Or != nil:
		return fmt.Sprintf("if [ -e %s/%s ]; then %s; else %s; fi", dir, v.File, echo, v.Or.shell(dir))
	case v.Optional:
		return fmt.Sprintf("[ ! -e %s/%s ] || %s", dir, v.File, echo)
	}
	return echo
}

// Apply makes the cgroup and opens its directory, for CLONE_INTO_CGROUP
// (clone3(2), Linux 5.7). The caller closes it. After an error no cgroup of
// this plan is left that was not there before.
func (p *Plan) Apply() (_ *os.File, err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, d := range slices.Backward(made) {
				err = errors.Join(err, pathError("remove the cgroup", d, unix.Rmdir(d)))
			}
		}
	}()
	mkdir := func(dir string) error {
		begin := p.begin()
		err := os.Mkdir(dir, 0o755)
		p.did("mkdir "+dir, err, begin)
		if err == nil {
			made = append(made, dir)
		} else if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the cgroup: %w", err)
		}
		return nil
	}
	part := false // a parent does not hand down all that is wanted
	for i, d := range p.parents {
		if i > 0 {
			if err := mkdir(d); err != nil {
				return nil, err
			}
		}
		all, err := p.enable(d)
		if err != nil {
			return nil, err
		}
		part = part || !all
	}
	parents := len(made)
	if err := mkdir(p.Dir); err != nil {
		return nil, err
	}
	if part {
		if err := joinThreads(made); err != nil {
			return nil, err
		}
	}
	if p.Private && len(made) == parents {
		if err := unused(p.Dir); err != nil {
			return nil, err
		}
	}
	for _, v := range p.Writes {
		begin := p.begin()
		err := v.apply(p.Dir)
		p.did(v.shell(p.Dir), err, begin)
		if err != nil {
			return nil, err
		}
	}
	if p.Owner != nil {
		if err := delegate(p.Dir, *p.Owner); err != nil {
			return nil, err
		}
	}
	return os.Open(p.Dir)
}

// unused refuses a cgroup in which a container would not be alone, or stand still.
func unused(dir string) error {
	pids, err := Procs(dir)
	if err != nil && !gone(err) {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("container's cgroup is not empty: %d process(es) found in %s", len(pids), dir)
	}
	if frozen, err := Frozen(dir); err == nil && frozen {
		return fmt.Errorf("container's cgroup unexpectedly frozen: %s", dir)
	}
	return nil
}

// joinThreads makes new cgroups part of the threaded cgroup that they lie in,
// the upper ones first: as they come they take no processes ("domain invalid",
// cgroup-v2.rst "Threads"). Nothing that the plan needs is missing there.
func joinThreads(dirs []string) error {
	for _, d := range dirs {
		if cgroupType(d) == "domain invalid" {
			if err := write(d, "cgroup.type", "threaded"); err != nil {
				return err
			}
		}
	}
	return nil
}

// enable hands controllers down to the children of a cgroup, and tells whether
// they have all. It writes only what is missing: a write costs the kernel a walk
// over all descendants.
func (p *Plan) enable(dir string) (all bool, err error) {
	missing, err := lacks(dir, "cgroup.subtree_control", p.Enable)
	if err != nil || len(missing) == 0 {
		return true, err
	}
	absent, err := lacks(dir, "cgroup.controllers", missing)
	if err != nil {
		return false, err
	}
	for _, c := range absent {
		if slices.Contains(p.need, c) {
			return false, notHere(dir, c)
		}
	}
	missing = slices.DeleteFunc(missing, func(c string) bool { return slices.Contains(absent, c) })
	if len(missing) > 0 && p.hand(dir, missing...) == nil {
		return len(absent) == 0, nil
	}
	// One refuses all (cpu does while real-time processes run, cgroup-v2.rst
	// "CPU"): each for itself, and only those that are needed count.
	for _, c := range missing {
		err := p.hand(dir, c)
		if err == nil || !slices.Contains(p.need, c) {
			continue
		}
		if errors.Is(err, unix.EOPNOTSUPP) {
			return false, notHere(dir, c)
		}
		return false, err
	}
	return false, nil
}

// hand switches controllers on for the cgroups below dir.
func (p *Plan) hand(dir string, controllers ...string) error {
	list := "+" + strings.Join(controllers, " +")
	begin := p.begin()
	err := write(dir, "cgroup.subtree_control", list)
	p.did("echo "+list+" > "+dir+"/cgroup.subtree_control", err, begin)
	return err
}

// begin and did time a step for Trace.
func (p *Plan) begin() (t time.Time) {
	if p.Trace != nil {
		t = time.Now()
	}
	return t
}

func (p *Plan) did(step string, err error, begin time.Time) {
	if p.Trace != nil {
		p.Trace(step, err, begin, time.Now())
	}
}

// lacks tells which of the wanted words are not in a file of a cgroup.
func lacks(dir, file string, want []string) (missing []string, err error) {
	if len(want) == 0 {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, fmt.Errorf("read the controllers of %s: %w", dir, err)
	}
	have := strings.Fields(string(b))
	for _, c := range want {
		if !slices.Contains(have, c) {
			missing = append(missing, c)
		}
	}
	return missing, nil
}

func (v Write) apply(dir string) error {
	err := put(dir, v.File, v.Value)
	switch {
	case err == nil:
		return nil
	case v.Or != nil && errors.Is(err, fs.ErrNotExist):
		return v.Or.apply(dir)
	case v.Optional && errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return refused(dir, v.File, v.Value, err)
}

func write(dir, file, value string) error {
	if err := put(dir, file, value); err != nil {
		return refused(dir, file, value, err)
	}
	return nil
}

func put(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

const delegateList = "/sys/kernel/cgroup/delegate"

// delegate gives a cgroup to a user who may make cgroups below it and move
// processes between them, but not change its limits (cgroup-v2.rst
// "Delegation Containment").
func delegate(dir string, uid int) error {
	files := []string{"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
	if b, err := os.ReadFile(delegateList); err == nil { // Linux 4.15
		files = strings.Fields(string(b))
	}
	if err := os.Chown(dir, uid, -1); err != nil {
		return fmt.Errorf("give the cgroup to uid %d: %w", uid, err)
	}
	for _, f := range files {
		err := os.Chown(filepath.Join(dir, f), uid, -1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // of a controller that is not on
			return fmt.Errorf("give the cgroup to uid %d: %w", uid, err)
		}
	}
	return nil
}
