package seccomp

import "golang.org/x/sys/unix"

// tree lays down the search for a system call number in the accumulator. Each
// half has about the same number of calls, not of spans: so most calls are
// found after few comparisons.
func (a *assembler) tree(spans []span) target {
	switch n := len(spans); {
	case n == 1:
		return spans[0].to
	case n == 2:
		return a.jump(unix.BPF_JGE, spans[1].start, spans[1].to, spans[0].to)
	case n == 3 && spans[0].to == spans[2].to && spans[1].start+1 == spans[2].start:
		return a.jump(unix.BPF_JEQ, spans[1].start, spans[1].to, spans[0].to)
	}
	i := middle(spans)
	right := a.tree(spans[i:])
	left := a.tree(spans[:i])
	return a.jump(unix.BPF_JGE, spans[i].start, right, left)
}

// middle gives where the second half of the spans begins.
func middle(spans []span) int {
	total := int32(0)
	for i := range spans {
		total += spans[i].weight
	}
	best, left := 1, spans[0].weight
	for i := 2; i < len(spans); i++ {
		more := left + spans[i-1].weight
		if abs(total-2*more) > abs(total-2*left) {
			break
		}
		best, left = i, more
	}
	return best
}

func abs(n int32) int32 { return max(n, -n) }
