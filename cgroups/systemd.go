package cgroups

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// scope is the driver that asks systemd, which then knows what the container
// is, shows it in its own tools, and does not take its cgroup for a stray one.
// Limits are told to systemd and written to the files as well: it logs what the
// kernel refuses and goes on, and it has no name for all of them. The scope is
// delegated (https://systemd.io/CGROUP_DELEGATION), so that this is ours to do.
// Device rules are not told: our filter is in force either way, and systemd
// leaves programs of others alone.
type scope struct {
	at    State
	slice string
	plan  *Plan // its writes are rounded as systemd does
	props []property
	user  bool
	few   string // pids.max, where it has no room for a placeholder beside the container's first process
}

// Versions of systemd; 244 (2019) is taken for granted.
const (
	idleVersion = 252 // CPUWeight=idle
	oomVersion  = 253 // OOMPolicy of a scope; before, systemd puts memory.oom.group back to 0 when it likes
)

func (h *Host) scope(r Request) (Manager, error) {
	s := &scope{user: r.Rootless}
	var err error
	if s.slice, s.at.Unit, err = unitName(r.Path, r.ID, s.user); err != nil {
		return nil, err
	}
	dir, err := sliceDir(s.slice)
	if err != nil {
		return nil, err
	}
	manager := "/"
	if s.user {
		if s.at.UserBus, err = userBus(); err != nil {
			return nil, err
		}
		// As far as can be told before; Apply looks where the scope really is.
		uid := strconv.Itoa(ownerUID())
		manager = "/user.slice/user-" + uid + ".slice/user@" + uid + ".service"
	}
	s.at.Dir = filepath.Join(h.Mount, manager, dir, s.at.Unit)
	if s.plan, err = newPlan(h.Mount, s.at.Dir, &r.Limits); err != nil {
		return nil, err
	}
	top := h.at("/") // what is not handed down to the scope yet, systemd or the plan sees to
	for _, c := range s.plan.need {
		if err := top.need(c); err != nil {
			return nil, err
		}
	}
	s.plan.want(top.Controllers, top.Controllers...) // those that systemd does not know: hugetlb, rdma, misc
	s.plan.Owner = r.Owner
	s.plan.Writes = slices.DeleteFunc(s.plan.Writes, func(w Write) bool {
		n, err := strconv.Atoi(w.Value)
		if w.File != "pids.max" || err != nil || n >= room {
			return false
		}
		s.few = w.Value
		return true
	})
	limits, err := properties(s.plan.Writes)
	if err != nil {
		return nil, err
	}
	extra, err := annotated(r.Annotations)
	if err != nil {
		return nil, err
	}
	s.props = []property{
		prop("Description", "berth container "+r.ID),
		prop("Slice", s.slice),
		prop("Delegate", true),
		prop("MemoryAccounting", true), prop("CPUAccounting", true), prop("IOAccounting", true), prop("TasksAccounting", true),
		prop("DefaultDependencies", false), // systemd would stop it early at shutdown; that is its owner's business
	}
	s.props = append(append(s.props, extra...), limits...)
	s.oomPolicy(r.Limits.Unified["memory.oom.group"])
	return s, nil
}

// oomPolicy says memory.oom.group to systemd, which else sets its own.
func (s *scope) oomPolicy(group string) {
	switch strings.TrimSpace(group) {
	case "0":
		s.props = append(s.props, prop("OOMPolicy", "continue"))
	case "1":
		s.props = append(s.props, prop("OOMPolicy", "kill"))
	}
}

func needsVersion(props []property) (v int) {
	for _, p := range props {
		switch {
		case p.Name == "OOMPolicy":
			v = max(v, oomVersion)
		case p.idle():
			v = max(v, idleVersion)
		}
	}
	return v
}

func (p property) idle() bool { return p.Name == "CPUWeight" && p.Value.Value() == uint64(0) }

// ownerUID is the user whose systemd this is, also from inside a user namespace
// that maps him to root.
func ownerUID() int {
	uid := os.Geteuid()
	b, _ := os.ReadFile("/proc/self/uid_map")
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) == 3 {
			inside, outside, n := int(parse(f[0])), int(parse(f[1])), int(parse(f[2]))
			if uid >= inside && uid-inside < n {
				return outside + uid - inside
			}
		}
	}
	return uid
}

func (s *scope) Dir() string  { return s.at.Dir }
func (s *scope) State() State { return s.at }

// known leaves out what an older systemd refuses; the files are written anyway.
func (b *bus) known(props []property) []property {
	if needsVersion(props) == 0 {
		return props
	}
	v := b.version()
	return slices.DeleteFunc(slices.Clone(props), func(p property) bool {
		return p.Name == "OOMPolicy" && v < oomVersion || p.idle() && v < idleVersion
	})
}

func (s *scope) Apply(hold Placeholder) (_ *os.File, err error) {
	if s.plan == nil {
		return nil, fmt.Errorf("the scope %s was made before", s.at.Unit)
	}
	if exists(s.at.Dir) {
		if err := unused(s.at.Dir); err != nil {
			return nil, err
		}
	}
	b, err := dialBus(s.at.UserBus)
	if err != nil {
		return nil, err
	}
	defer b.close()
	pid, err := hold()
	if err != nil {
		return nil, fmt.Errorf("a process for the scope: %w", err)
	}
	props := append(slices.Clone(b.known(s.props)), prop("PIDs", []uint32{uint32(pid)}))
	if err := b.start(s.at.Unit, props); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop(s.at.Unit))
		}
	}()
	if err := s.find(pid); err != nil {
		return nil, err
	}
	return s.plan.Apply()
}

// room is how many processes a scope has at its start: a placeholder, and the
// container's first one, which may hand over to a second.
const room = 3

// Settle implements Manager.
func (s *scope) Settle() error {
	if s.few == "" {
		return nil
	}
	return s.Update(Limits{Unified: map[string]string{"pids.max": s.few}})
}

// find looks where systemd has put the process.
func (s *scope) find(pid int) error {
	own, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return fmt.Errorf("find the cgroup of the scope: %w", err)
	}
	h, err := Find()
	if err != nil {
		return err
	}
	at := filepath.Join(h.Mount, unified(string(own)))
	if filepath.Base(at) != s.at.Unit {
		return fmt.Errorf("the process for the scope %s is in %s", s.at.Unit, at)
	}
	if at != s.at.Dir {
		s.at.Dir = at
		s.plan.move(h.Mount, at)
	}
	return nil
}

func (s *scope) Update(l Limits) error {
	writes, err := l.changes(s.at.Dir)
	if err != nil {
		return err
	}
	props, err := properties(writes)
	if err != nil {
		return err
	}
	if len(props) > 0 {
		b, err := dialBus(s.at.UserBus)
		if err != nil {
			return err
		}
		defer b.close()
		props = b.known(props)
		if err := b.call("SetUnitProperties", s.at.Unit, true, props).Err; err != nil {
			return fmt.Errorf("set properties of the systemd unit %s: %w", s.at.Unit, err)
		}
	}
	return l.write(s.at.Dir, writes)
}

func (s *scope) Attach(pid int, sub string) error {
	if _, err := below(s.at.Dir, sub); err != nil {
		return err
	}
	b, err := dialBus(s.at.UserBus)
	if err != nil {
		return err
	}
	defer b.close()
	at := filepath.Join("/", sub)
	if err := b.call("AttachProcessesToUnit", s.at.Unit, at, []uint32{uint32(pid)}).Err; err != nil {
		return fmt.Errorf("move process %d into the systemd unit %s: %w", pid, s.at.Unit, err)
	}
	return nil
}

// Remove kills before systemd is asked to stop the scope: it would send SIGTERM
// and wait for minutes.
func (s *scope) Remove() error {
	err := Kill(s.at.Dir)
	if err == nil {
		err = await(s.at.Dir, "populated", "0")
	}
	if err != nil && !gone(err) {
		return err
	}
	b, err := dialBus(s.at.UserBus)
	if err == nil {
		err = b.stop(s.at.Unit)
		b.close()
	}
	if e := Remove(s.at.Dir); e != nil && !gone(e) { // the cgroups that the container made in it
		err = errors.Join(err, e)
	}
	return err
}

// Print shows the call as busctl(1) makes it.
func (s *scope) Print(w io.Writer) {
	if s.plan == nil {
		return
	}
	user := ""
	if s.user {
		user = " --user"
	}
	props := append(slices.Clone(s.props), prop("PIDs", []uint32{0}))
	fmt.Fprintf(w, "busctl%s call %s %s %s StartTransientUnit 'ssa(sv)a(sa(sv))' %s replace %d", user, busName, busPath, busIface, s.at.Unit, len(props))
	for _, p := range props {
		fmt.Fprintf(w, " \\\n  %s %s", p.Name, p.Value.Signature())
		if p.Name == "PIDs" {
			fmt.Fprint(w, " 1 $PID")
			continue
		}
		for _, a := range busctl(reflect.ValueOf(p.Value.Value())) {
			fmt.Fprint(w, " ", a)
		}
	}
	fmt.Fprint(w, " \\\n  0\n")
	s.plan.Print(w)
}

// busctl writes a value as the arguments of busctl(1): arrays by their length
// before their elements.
func busctl(v reflect.Value) (args []string) {
	switch v.Kind() {
	case reflect.Slice:
		args = append(args, strconv.Itoa(v.Len()))
		for i := range v.Len() {
			args = append(args, busctl(v.Index(i))...)
		}
	case reflect.Map:
		args = append(args, strconv.Itoa(v.Len()))
		for _, k := range v.MapKeys() {
			args = append(append(args, busctl(k)...), busctl(v.MapIndex(k))...)
		}
	case reflect.String:
		args = append(args, "'"+strings.ReplaceAll(v.String(), "'", `'\''`)+"'")
	default:
		if n, ok := v.Interface().(dbus.Variant); ok {
			return append([]string{n.Signature().String()}, busctl(reflect.ValueOf(n.Value()))...)
		}
		args = append(args, fmt.Sprint(v.Interface()))
	}
	return args
}
