package seccomp

import (
	"fmt"
	"slices"
)

// A table is what the profile decides for one architecture: for each slot a
// verdict, 0 for none, else one more than its index in verdicts.
type table struct {
	arch     *arch
	slot     [slots]uint16
	verdicts []verdict
	last     int    // the highest slot that the profile names, private calls apart; -1: none
	conds    []cond // of calls that others carry
}

// A verdict is an action or, where alts are, the action of the first of them
// that holds, the default action if none does.
type verdict struct {
	action uint32
	alts   []alternative
}

// decide fills the table from the rules.
func decide(a *arch, rules []rule, defaultAction uint32) (*table, error) {
	t := &table{arch: a, last: -1, verdicts: make([]verdict, 0, 16)}
	var carriers [2]int
	if a.mux {
		carriers = a.carriers()
	}
	for i := range rules {
		r := &rules[i]
		for _, line := range r.lines {
			slot := a.slot(int(line))
			carrier, call := noCarrier, uint64(0)
			if a.mux {
				carrier, call = carriedBy(int(line))
			}
			t.name(slot)
			if carrier != noCarrier {
				t.name(carriers[carrier])
			}
			if r.action == defaultAction {
				continue
			}
			for _, conds := range r.when {
				if err := t.add(slot, r.action, conds); err != nil {
					return nil, err
				}
				if carrier == noCarrier {
					continue
				}
				if err := t.add(carriers[carrier], r.action, t.carried(conds, call)); err != nil {
					return nil, err
				}
			}
		}
	}
	t.share()
	return t, nil
}

// name notes that the profile speaks of a slot.
func (t *table) name(slot int) {
	if slot < privateSlot {
		t.last = max(t.last, slot)
	}
}

// add lets an action count for the system call of a slot, if the architecture
// has it, under conditions.
func (t *table) add(slot int, action uint32, conds []cond) error {
	if slot < 0 {
		return nil
	}
	conds = t.arch.effective(conds)
	if len(conds) == 0 {
		t.always(slot, action)
		return nil
	}
	v := t.slot[slot]
	if v != 0 && t.verdicts[v-1].alts == nil {
		return nil // a rule without conditions was there
	}
	if v == 0 {
		t.verdicts = append(t.verdicts, verdict{})
		v = uint16(len(t.verdicts))
		t.slot[slot] = v
	}
	alts, err := insert(t.verdicts[v-1].alts, alternative{conds: conds, action: action}, t.arch.wide)
	if err != nil {
		return fmt.Errorf("seccomp: system call %d of %s: %w", t.arch.number(slot), t.arch.name, err)
	}
	t.verdicts[v-1].alts = alts
	return nil
}

// always lets an action count whatever the arguments.
func (t *table) always(slot int, action uint32) {
	if v := t.slot[slot]; v != 0 && t.verdicts[v-1].alts == nil {
		return // the first one counts
	}
	for i := range t.verdicts {
		if t.verdicts[i].alts == nil && t.verdicts[i].action == action {
			t.slot[slot] = uint16(i + 1)
			return
		}
	}
	t.verdicts = append(t.verdicts, verdict{action: action})
	t.slot[slot] = uint16(len(t.verdicts))
}

// share makes system calls with equal alternatives have one verdict, and
// forgets the others, so that no test is in the program twice.
func (t *table) share() {
	same := make([]uint16, len(t.verdicts)+1)
	for s, v := range t.slot {
		if v == 0 {
			continue
		}
		if same[v] == 0 {
			same[v] = t.firstEqual(v, same)
		}
		t.slot[s] = same[v]
	}
	for i := range t.verdicts {
		if same[i+1] != uint16(i+1) {
			t.verdicts[i] = verdict{}
		}
	}
}

// firstEqual gives the verdict that stands for v: itself, or one before it in
// the table that is the same.
func (t *table) firstEqual(v uint16, same []uint16) uint16 {
	if t.verdicts[v-1].alts == nil {
		return v
	}
	for i := range t.verdicts {
		if o := uint16(i + 1); o != v && same[o] == o && slices.EqualFunc(t.verdicts[v-1].alts, t.verdicts[i].alts, alternative.equal) {
			return o
		}
	}
	return v
}

func (a alternative) equal(b alternative) bool {
	return a.action == b.action && slices.Equal(a.conds, b.conds)
}

// effective leaves out the conditions that always hold: masks without a bit.
func (a *arch) effective(conds []cond) []cond {
	always := func(c cond) bool { return c.op == maskedEqual && (c.mask == 0 || !a.wide && uint32(c.mask) == 0) }
	if slices.ContainsFunc(conds, always) {
		conds = slices.DeleteFunc(slices.Clone(conds), always)
	}
	return conds
}

// carried gives the conditions for a call that comes through socketcall(2) or
// ipc(2): their first argument is the number of the call. Its own first
// argument is out of reach then; the others are compared as they are, for want
// of better (libseccomp does so, too).
func (t *table) carried(conds []cond, call uint64) []cond {
	begin := len(t.conds)
	t.conds = append(t.conds, cond{arg: 0, op: equal, mask: ^uint64(0), val: call})
	for _, c := range conds {
		if c.arg != 0 {
			t.conds = append(t.conds, c)
		}
	}
	return t.conds[begin:len(t.conds):len(t.conds)]
}
