package seccomp

import (
	"errors"
	"slices"
)

// Which alternative counts when several hold is a question only where their
// actions differ, and the spec does not answer it. libseccomp does by the
// order of its tree, and so do we. An alternative is a chain of tests of 32-bit
// words, by argument, upper half first. Chains with a common beginning are
// neighbours; where they part, the test of the higher argument goes first, then
// equalities before upper bounds before lower bounds, then the tighter bound.
// A chain whose tests are all among those of another is wider, and hides it.

var errConflict = errors.New("rules with the same conditions have different actions")

// An alternative holds if all its conditions do.
type alternative struct {
	conds  []cond
	action uint32
	// rank[i] is that of the first chain with the same beginning of i+1
	// tests: it decided where the others are, too.
	rank [2 * seccompArgs]uint8
}

// A step is one test of a chain.
type step struct {
	word        uint8 // argument and half, in the order of words
	kind        uint8 // which comparison the kernel makes
	datum, mask uint32
}

// insert puts n at its place in the list. It gives errConflict for one that
// would hide another with a different action.
func insert(list []alternative, n alternative, wide bool) ([]alternative, error) {
	for i := range list {
		if !list[i].within(&n, wide) {
			continue
		}
		if len(list[i].conds) == len(n.conds) && list[i].action != n.action {
			return nil, errConflict
		}
		return list, nil // its place is before that of n, which never comes to pass
	}
	list = slices.DeleteFunc(list, func(x alternative) bool { return x.action == n.action && n.within(&x, wide) })
	for depth := range length(n.conds, wide) {
		n.rank[depth] = rank(n.conds[condAt(depth, wide)].op)
	}
	lo, hi := 0, len(list) // those that begin as n does
	depth := 0
next:
	for ; depth < length(n.conds, wide); depth++ {
		mine := stepOf(n.conds, depth, wide)
		for i := lo; i < hi; {
			if depth == length(list[i].conds, wide) {
				i++ // begins as n, but for what is asked of a test
				continue
			}
			its := stepOf(list[i].conds, depth, wide)
			end := i + 1
			for end < hi && depth < length(list[end].conds, wide) && its == stepOf(list[end].conds, depth, wide) {
				end++
			}
			if its == mine {
				lo, hi = i, end
				n.rank[depth] = list[i].rank[depth]
				continue next
			}
			if its.after(mine, list[i].rank[depth], n.rank[depth]) {
				return slices.Insert(list, i, n), nil
			}
			i = end
		}
		return slices.Insert(list, hi, n), nil
	}
	// All in between begin as n does, but for what is asked of a test.
	for i := lo; i < hi; i++ {
		if n.within(&list[i], wide) {
			return nil, errConflict
		}
	}
	return slices.Insert(list, hi, n), nil
}

// within tells whether all conditions of a are among those of b.
func (a *alternative) within(b *alternative, wide bool) bool {
	j := 0
	for _, c := range a.conds {
		for j < len(b.conds) && b.conds[j].arg < c.arg {
			j++
		}
		if j == len(b.conds) || !c.same(b.conds[j], wide) {
			return false
		}
	}
	return true
}

func (c cond) same(o cond, wide bool) bool {
	return c.arg == o.arg && c.op == o.op &&
		(c.val == o.val && c.mask == o.mask || !wide && uint32(c.val) == uint32(o.val) && uint32(c.mask) == uint32(o.mask))
}

func length(conds []cond, wide bool) int {
	if wide {
		return 2 * len(conds)
	}
	return len(conds)
}

// condAt gives which condition the test at a depth of the chain belongs to.
func condAt(depth int, wide bool) int {
	if wide {
		return depth / 2
	}
	return depth
}

func stepOf(conds []cond, depth int, wide bool) step {
	c := &conds[condAt(depth, wide)]
	if !wide || depth%2 == 1 {
		return step{2 * c.arg, kind(c.op), uint32(c.val), uint32(c.mask)}
	}
	s := step{2*c.arg + 1, kind(c.op), uint32(c.val >> 32), uint32(c.mask >> 32)}
	if s.kind == kindGE {
		s.kind = kindGT // whether equal will do is asked of the lower half
	}
	return s
}

const (
	kindEQ = iota
	kindMasked
	kindGT
	kindGE
)

// kind is the comparison for an operator; the negated ones ask for it to fail.
func kind(op operator) uint8 {
	switch op {
	case maskedEqual:
		return kindMasked
	case greaterThan, lessEqual:
		return kindGT
	case greaterEqual, lessThan:
		return kindGE
	}
	return kindEQ
}

const (
	rankLower = 1 // bounds from below
	rankUpper = 2
	rankEqual = 3
)

func rank(op operator) uint8 {
	switch op {
	case lessThan, lessEqual:
		return rankUpper
	case greaterThan, greaterEqual:
		return rankLower
	}
	return rankEqual
}

// after: s, of rank r, goes after o, of rank q.
func (s step) after(o step, r, q uint8) bool {
	switch {
	case s.word != o.word:
		return s.word < o.word
	case r != q:
		return r < q
	case r == rankUpper:
		return s.datum > o.datum
	}
	return s.datum < o.datum
}
