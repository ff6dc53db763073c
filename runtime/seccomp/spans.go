package seccomp

import "golang.org/x/sys/unix"

// A span is a run of system call numbers with one verdict. It ends where the
// next one starts, the last one with the largest number.
type span struct {
	start  uint32
	weight int32 // how many calls are in it
	to     target
}

// A planner makes spans of tables.
type planner struct {
	*assembler
	spans         []span
	defaultAction uint32
	weight        int32 // of one number
}

const (
	kill   target = -1 - unix.SECCOMP_RET_KILL_THREAD
	noCall target = -1 - (unix.SECCOMP_RET_ERRNO | target(unix.ENOSYS))
)

// permissive tells that a default action lets calls through, or lets a tracer
// decide: then a new call needs no help.
func permissive(action uint32) bool {
	switch action & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE:
		return true
	}
	return false
}

// add begins a span where the verdict changes.
func (p *planner) add(start uint32, to target, weight int32) {
	if n := len(p.spans); n > 0 && p.spans[n-1].to == to {
		p.spans[n-1].weight += weight
		return
	}
	p.spans = append(p.spans, span{start, weight, to})
}

// table adds the spans of one table, from its first number on.
func (p *planner) table(t *table) {
	to := make([]target, len(t.verdicts)+1)
	to[0] = returns(p.defaultAction)
	for i := len(t.verdicts) - 1; i >= 0; i-- {
		v := &t.verdicts[i]
		if v.alts == nil {
			to[i+1] = returns(v.action)
		} else {
			to[i+1] = p.alternatives(v.alts, t.arch, p.defaultAction)
		}
	}
	for s := 0; s <= t.last; s++ {
		v := to[t.slot[s]]
		// setup(2) is what a number unknown to the kernel becomes on s390
		// (runc's patchbpf); nobody calls it else.
		if s == 0 && (t.arch.column == colS390 || t.arch.column == colS390X) && p.after(t) == noCall {
			v = noCall
		}
		p.add(t.arch.number(s), v, p.weight)
	}
	p.add(t.arch.number(t.last+1), p.after(t), 0)
	if t.arch.column == colARM {
		for s := privateSlot; s < slots; s++ {
			p.add(t.arch.number(s), to[t.slot[s]], p.weight)
		}
		p.add(t.arch.number(slots-1)+1, p.after(t), 0)
	}
}

// after is the verdict for numbers above those that the profile names.
func (p *planner) after(t *table) target {
	if t.last < 0 || permissive(p.defaultAction) {
		return returns(p.defaultAction)
	}
	return noCall
}

// x86 adds the spans of AUDIT_ARCH_X86_64, where a bit of the number tells
// amd64 and x32 apart. Either table may be nil.
func (p *planner) x86(amd64, x32 *table) {
	if amd64 != nil {
		p.weight = 16 // hardly anybody is x32
		p.table(amd64)
		p.weight = 1
	} else {
		p.add(0, kill, 0)
	}
	if x32 != nil {
		p.table(x32)
	} else {
		p.add(x32Bit, kill, 0)
	}
	// Numbers with the highest bit are nobody's, but -1, which a tracer sets
	// to skip a call (seccomp(2)). They look like amd64's to who asks for the
	// bit only, as runc does.
	other := kill
	if x32 != nil {
		other = returns(p.defaultAction)
	}
	if amd64 != nil && p.after(amd64) == noCall {
		p.add(0x80000000, noCall, 0)
	} else {
		p.add(0x80000000, other, 0)
	}
	if x32 != nil && p.after(x32) == noCall {
		other = noCall
	}
	p.add(0xc0000000, other, 0)
	if x32 == nil {
		p.add(0xffffffff, returns(p.defaultAction), 0)
	}
}
