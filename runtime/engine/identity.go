package engine

import (
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// limits: what a process may still raise or set while it has its rights, and
// what no program of the container has looked at yet.
func (d *decision) limits() error {
	list, err := rlimits(d.spec.Process.Rlimits)
	if err != nil {
		return err
	}
	d.add(list...)
	more, err := attributes(d.spec.Process, d.spec.Linux)
	if err != nil {
		return err
	}
	d.add(more...)
	return nil
}

// identity: from here on the process has less and less rights, in the order in
// which each right is still needed for the next. A filter stands as near to the
// program as it can: at the end when no_new_privs allows everybody to set one,
// else before CAP_SYS_ADMIN goes.
func (d *decision) identity() error {
	p := d.spec.Process
	c, err := capabilities(p.Capabilities, d.facts.LastCap(), d.warn)
	if err != nil {
		return err
	}
	cwd := &step.Result{Name: "cwd", None: -1}
	d.add(step.Chdir{Path: p.Cwd, Cwd: cwd})
	if !p.NoNewPrivileges {
		d.filter()
	}
	if c != nil && c.drop != 0 {
		d.add(step.DropBounding{Drop: c.drop})
	}
	d.add(step.Credentials{UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids,
		NoSetgroups: d.config.NoSetgroups && len(p.User.AdditionalGids) == 0,
		Unsure:      d.hands && !d.facts.Rights() && len(p.User.AdditionalGids) == 0,
		KeepCaps:    c != nil && p.User.UID != 0 && c.Permitted != 0})
	if c != nil {
		d.add(c.Capabilities)
	}
	d.add(step.ChdirAgain{Path: p.Cwd, Cwd: cwd})
	mask := uint32(0o022)
	if p.User.Umask != nil {
		mask = *p.User.Umask
	}
	d.add(step.Umask{Mask: mask})
	if d.stateDir != "" {
		d.add(step.LookPath{Name: p.Args[0], Path: searchPath(p), Filtered: d.config.Seccomp != nil && !p.NoNewPrivileges},
			step.DieBySignal{})
	}
	if !d.config.Init { // the reaper's child does so itself
		d.add(step.Signals{})
	}
	if p.NoNewPrivileges {
		d.add(step.NoNewPrivs{})
		d.filter()
	}
	return nil
}

// filter: the parent fetches the descriptor of notifications while the child
// waits; the byte that tells of it is written, a call which a filter with
// notifications must not notify of.
func (d *decision) filter() {
	f := d.config.Seccomp
	if f == nil {
		return
	}
	s := step.Seccomp{Flags: uint64(f.Flags), Program: f.Bytes()}
	if f.Notify {
		s.Flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
		s.Listener = &step.Result{Name: "listener"}
		d.listener = s.Listener
	}
	if f.Notify && d.config.Notify != nil && !d.facts.Rights() {
		d.add(step.Dumpable{})
	}
	d.add(s)
	if f.Notify && d.config.Notify != nil {
		d.meet(true, "the filter's listener", (*launch).notify)
		d.add(step.Close{FD: step.From(s.Listener)}, step.Close{FD: step.From(d.sync)})
	}
}

// capSets is what a spec's capabilities come to.
type capSets struct {
	step.Capabilities
	drop uint64 // not in the bounding set
}

// capabilities: names that this kernel does not know are left out with a warning,
// as are ambient ones that cannot be, for they are not inheritable or permitted.
func capabilities(c *specs.LinuxCapabilities, last int, warn func(string, ...any)) (*capSets, error) {
	if c == nil {
		return nil, nil
	}
	out := &capSets{}
	var bounding uint64
	var unknown []string
	for _, set := range []struct {
		names []string
		bits  *uint64
	}{{c.Bounding, &bounding}, {c.Effective, &out.Effective}, {c.Permitted, &out.Permitted},
		{c.Inheritable, &out.Inheritable}, {c.Ambient, &out.Ambient}} {
		for _, name := range set.names {
			n := step.CapNumber(name)
			if n < 0 || n > last {
				unknown = append(unknown, name)
				continue
			}
			*set.bits |= 1 << n
		}
	}
	if len(unknown) > 0 {
		warn("ignoring unknown or unavailable capabilities: %v", unknown)
	}
	out.Effective &= out.Permitted
	for n := range 64 {
		if bit := uint64(1) << n; out.Ambient&bit != 0 && out.Permitted&out.Inheritable&bit == 0 {
			warn("can't raise ambient capability %s: it is not permitted and inheritable", step.CapName(n))
			out.Ambient &^= bit
		}
	}
	out.drop = ^bounding & (1<<(last+1) - 1)
	return out, nil
}

// attributes are what else the kernel keeps of a process. Each is absent by default.
func attributes(p *specs.Process, l *specs.Linux) ([]step.Step, error) {
	out := []step.Step{allProcessors}
	if l != nil && l.Personality != nil {
		s, err := personality(l.Personality)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if l != nil && l.MemoryPolicy != nil {
		s, err := memoryPolicy(l.MemoryPolicy)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if p.IOPriority != nil {
		class := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}[p.IOPriority.Class]
		if class == 0 || p.IOPriority.Priority < 0 || p.IOPriority.Priority > 7 {
			return nil, fmt.Errorf("invalid ioPriority: class %q, priority %d (0 to 7)", p.IOPriority.Class, p.IOPriority.Priority)
		}
		out = append(out, step.IOPriority{Class: class, Level: p.IOPriority.Priority})
	}
	if p.Scheduler != nil {
		s, err := scheduler(p.Scheduler)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// allProcessors: what the caller was bound to is not the container's matter; its
// cgroup's cpuset still holds.
var allProcessors = step.Affinity{Mask: []byte(strings.Repeat("\xff", 1024)), Text: "all"}

// personality: PER_LINUX and PER_LINUX32 of linux/personality.h.
func personality(p *specs.LinuxPersonality) (step.Step, error) {
	if len(p.Flags) > 0 {
		return nil, fmt.Errorf("personality flags are not supported: %v", p.Flags)
	}
	switch p.Domain {
	case specs.PerLinux:
		return step.Personality{Domain: 0}, nil
	case specs.PerLinux32:
		return step.Personality{Domain: 8}, nil
	}
	return nil, fmt.Errorf("invalid personality domain %q", p.Domain)
}

func scheduler(s *specs.Scheduler) (step.Step, error) {
	policies := map[specs.LinuxSchedulerPolicy]uint32{specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2,
		specs.SchedBatch: 3, specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6}
	flags := map[specs.LinuxSchedulerFlag]uint64{specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2,
		specs.SchedFlagDLOverrun: 4, specs.SchedFlagKeepPolicy: 8, specs.SchedFlagKeepParams: 16,
		specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64}
	policy, ok := policies[s.Policy]
	if !ok {
		return nil, fmt.Errorf("invalid scheduler policy %q", s.Policy)
	}
	if s.Nice < -20 || s.Nice > 19 {
		return nil, fmt.Errorf("invalid scheduler.nice: %d (-20 to 19)", s.Nice)
	}
	if s.Priority != 0 && policy != 1 && policy != 2 {
		return nil, fmt.Errorf("scheduler.priority can only be specified for SchedFIFO or SchedRR policy")
	}
	if policy != 6 && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) {
		return nil, fmt.Errorf("scheduler runtime/deadline/period can only be specified for SchedDeadline policy")
	}
	a := unix.SchedAttr{Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority), Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}
	for _, f := range s.Flags {
		bit, ok := flags[f]
		if !ok {
			return nil, fmt.Errorf("invalid scheduler flag %q", f)
		}
		a.Flags |= bit
	}
	return step.Scheduler{Attr: a}, nil
}
