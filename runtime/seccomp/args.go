package seccomp

import "golang.org/x/sys/unix"

// An entry is where tests begin that are made when those before have failed.
type entry struct {
	start  target // loads word first
	word   uint32 // offset in seccomp_data
	loaded target // for who has it in the accumulator already
}

const nothing = ^uint32(0) // instead of an offset

// from is where to go on with a word in the accumulator.
func (e entry) from(word uint32) target {
	if word == e.word {
		return e.loaded
	}
	return e.start
}

// alternatives lays down the tests of one system call, and gives where they
// begin. If none holds the default action is taken.
func (a *assembler) alternatives(alts []alternative, arch *arch, defaultAction uint32) target {
	end := returns(defaultAction)
	no := entry{start: end, word: nothing, loaded: end}
	for end := len(alts); end > 0; {
		begin := end - 1
		for begin > 0 && alike(alts[begin-1].conds, alts[begin].conds, arch.wide) {
			begin--
		}
		if end-begin > 1 {
			no = a.compare(alts[begin:end], arch, no, 0)
		} else {
			no = a.alternative(alts[begin], arch, no)
		}
		end = begin
	}
	return no.start
}

// alike tells whether two alternatives are comparisons of one word with two
// numbers: then it is loaded, and its upper half compared, once for both.
func alike(x, y []cond, wide bool) bool {
	return len(x) == 1 && len(y) == 1 && x[0].arg == y[0].arg &&
		x[0].op != maskedEqual && y[0].op != maskedEqual &&
		(!wide || x[0].val>>32 == y[0].val>>32)
}

// alternative lays down the tests of conditions that must all hold.
func (a *assembler) alternative(alt alternative, arch *arch, no entry) entry {
	yes := returns(alt.action)
	var e entry
	for i := len(alt.conds) - 1; i >= 0; i-- {
		if alt.conds[i].op == maskedEqual {
			e = a.masked(alt.conds[i], arch, yes, no)
		} else {
			one := alternative{conds: alt.conds[i : i+1]}
			e = a.compare([]alternative{one}, arch, no, yes)
		}
		yes = e.start
	}
	return e
}

// compare lays down the comparisons of alternatives that are alike, with one
// condition each. What holds leads to yes or, if that is 0, to its action. The
// kernel compares 32 bits at a time: the upper half first, and the lower one
// where it is equal.
func (a *assembler) compare(alts []alternative, arch *arch, no entry, yes target) entry {
	arg, upper := alts[0].conds[0].arg, uint32(alts[0].conds[0].val>>32)
	low, high := arch.low(arg), arch.high(arg)
	t, above, below := no.from(low), no.from(high), no.from(high)
	for i := len(alts) - 1; i >= 0; i-- {
		holds := yes
		if yes == 0 {
			holds = returns(alts[i].action)
		}
		c := alts[i].conds[0]
		fails := t
		switch c.op {
		case notEqual:
			above, below = holds, holds
		case greaterThan, greaterEqual:
			above = holds
		case lessThan, lessEqual:
			below = holds
		}
		if negated(c.op) {
			holds, fails = fails, holds
		}
		t = a.jump(comparison(c.op), uint32(c.val), holds, fails)
	}
	e := entry{start: a.preceded(t, low), word: low, loaded: t}
	if !arch.wide {
		return e
	}
	if upper == 0 {
		below = above // nothing is below
	}
	t = a.jump(unix.BPF_JEQ, upper, e.start, below)
	if above != below && upper != ^uint32(0) {
		t = a.jump(unix.BPF_JGT, upper, above, t)
	}
	return entry{start: a.preceded(t, high), word: high, loaded: t}
}

// comparison is what BPF has for an operator. It lacks some (before Linux
// 4.14, and seccomp keeps to that): there the opposite is asked for.
func comparison(op operator) uint16 {
	switch op {
	case greaterThan, lessEqual:
		return unix.BPF_JGT
	case greaterEqual, lessThan:
		return unix.BPF_JGE
	}
	return unix.BPF_JEQ
}

func negated(op operator) bool { return op == notEqual || op == lessThan || op == lessEqual }

// masked lays down the comparison of the bits under a mask. A half without a
// bit in the mask need not be looked at.
func (a *assembler) masked(c cond, arch *arch, yes target, no entry) entry {
	e := entry{start: yes, word: nothing, loaded: yes}
	if mask := uint32(c.mask); mask != 0 {
		e = a.bits(arch.low(c.arg), mask, uint32(c.val), yes, no)
	}
	if mask := uint32(c.mask >> 32); mask != 0 && arch.wide {
		e = a.bits(arch.high(c.arg), mask, uint32(c.val>>32), e.start, no)
	}
	return e
}

func (a *assembler) bits(word, mask, value uint32, yes target, no entry) entry {
	left := nothing // in the accumulator
	if mask == ^uint32(0) {
		left = word
	}
	t := a.jump(unix.BPF_JEQ, value, yes, no.from(left))
	if mask != ^uint32(0) {
		t = a.and(mask)
	}
	return entry{start: a.preceded(t, word), word: word, loaded: t}
}
