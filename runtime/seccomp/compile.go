package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Filter is a compiled profile: what seccomp(2) SECCOMP_SET_MODE_FILTER takes.
type Filter struct {
	Program []unix.SockFilter
	Flags   uint // SECCOMP_FILTER_FLAG_*, with NEW_LISTENER if Notify
	Notify  bool // an action asks the listener: seccomp(2) returns its descriptor

	// Where the descriptor goes, and what goes with it. Empty unless Notify.
	ListenerPath, ListenerMetadata string
}

// Bytes gives the program as the kernel reads it: struct sock_filter in the
// byte order of this machine.
func (f *Filter) Bytes() []byte {
	b := make([]byte, 0, 8*len(f.Program))
	for _, i := range f.Program {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// Compile makes the filter of a profile for a machine, named as GOARCH names
// it. It gives nil for a profile that needs no filter: one that is empty, or
// allows everything. (runc installs one for the latter, which kills who makes
// calls of an architecture that is not listed.)
func Compile(p *specs.LinuxSeccomp, native string) (*Filter, error) {
	if p == nil || p.DefaultAction == "" && len(p.Syscalls) == 0 {
		return nil, nil
	}
	f := &Filter{}
	var err error
	if f.Flags, err = readFlags(p.Flags); err != nil {
		return nil, err
	}
	archs, err := chooseArchs(p.Architectures, native)
	if err != nil {
		return nil, err
	}
	defaultAction, err := readAction(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("seccomp: default: %w", err)
	}
	rules, err := readRules(p)
	if err != nil {
		return nil, err
	}
	if err := f.listener(p); err != nil {
		return nil, err
	}
	tables := make([]*table, len(archs))
	decided := false
	for i, a := range archs {
		if tables[i], err = decide(a, rules, defaultAction); err != nil {
			return nil, err
		}
		decided = decided || len(tables[i].verdicts) > 0
	}
	if !decided && !f.Notify && defaultAction == unix.SECCOMP_RET_ALLOW {
		return nil, nil
	}
	f.Program = assemble(tables, defaultAction)
	if n := len(f.Program); n > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp: the profile needs %d instructions, the kernel takes %d (bpf_common.h)", n, unix.BPF_MAXINSNS)
	}
	return f, nil
}

// listener checks what the profile says of the listener. Without an action
// that asks it, the rest is not looked at, as in runc.
func (f *Filter) listener(p *specs.LinuxSeccomp) error {
	if p.DefaultAction == specs.ActNotify {
		return errors.New("seccomp: SCMP_ACT_NOTIFY cannot be used as default action")
	}
	for i := range p.Syscalls {
		f.Notify = f.Notify || p.Syscalls[i].Action == specs.ActNotify && len(p.Syscalls[i].Names) > 0
	}
	if !f.Notify {
		if f.Flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
			// The kernel's answer would be EINVAL for the whole filter.
			return fmt.Errorf("seccomp: flag %s needs a rule with SCMP_ACT_NOTIFY", specs.LinuxSeccompFlagWaitKillableRecv)
		}
		return nil
	}
	if p.ListenerPath == "" {
		return errors.New("seccomp: listenerPath is not set, SCMP_ACT_NOTIFY needs it")
	}
	f.Flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	f.ListenerPath, f.ListenerMetadata = p.ListenerPath, p.ListenerMetadata
	return nil
}

// assemble makes the program: the native architecture is asked for first, and
// killed is who belongs to none.
func assemble(tables []*table, defaultAction uint32) []unix.SockFilter {
	a := &assembler{code: make([]unix.SockFilter, 0, 512)}
	var amd64, x32 *table
	for _, t := range tables {
		switch t.arch.column {
		case colX86_64:
			amd64 = t
		case colX32:
			x32 = t
		}
	}
	p := planner{assembler: a, defaultAction: defaultAction, spans: make([]span, 0, 256)}
	sections := make([]target, len(tables))
	for i := len(tables) - 1; i >= 0; i-- {
		t := tables[i]
		p.spans, p.weight = p.spans[:0], 1
		switch {
		case t == x32 && amd64 != nil:
			continue // is in the section of amd64
		case t == amd64 || t == x32:
			p.x86(amd64, x32)
		default:
			if t.arch.base > 0 {
				p.add(0, returns(defaultAction), 0)
			}
			p.table(t)
		}
		sections[i] = a.preceded(a.tree(p.spans), 0)
	}
	next := kill
	for i := len(tables) - 1; i >= 0; i-- {
		if t := tables[i]; t != x32 || amd64 == nil {
			next = a.jump(unix.BPF_JEQ, t.arch.audit, sections[i], next)
		}
	}
	if action, ok := next.action(); ok { // the same for all
		a.put(unix.BPF_RET|unix.BPF_K, action)
	} else {
		a.load(4)
	}
	return a.program()
}
