package seccomp

import (
	"golang.org/x/sys/unix"
)

// confused finds a comparison that is reached with different words in the
// accumulator on different ways, or that compares the architecture with what
// is none. libseccomp (2.5.4, 2.6.1) makes such programs from some rules of
// several conditions: it leaves out a load where ways meet. What they answer
// says nothing about the profile. Our own programs must have none.
func confused(prog []unix.SockFilter) (at int, yes bool) {
	type content struct {
		word, mask uint32
		several    bool
	}
	const undefined = ^uint32(0)
	reached := make([]bool, len(prog))
	acc := make([]content, len(prog)) // before each instruction
	flow := func(to int, c content) {
		if reached[to] && acc[to] != c {
			c.several = true
		}
		reached[to], acc[to] = true, c
	}
	flow(0, content{word: undefined})
	for pc, i := range prog { // jumps go forward only
		if !reached[pc] {
			continue
		}
		c := acc[pc]
		switch {
		case i.Code == unix.BPF_LD|unix.BPF_W|unix.BPF_ABS:
			flow(pc+1, content{word: i.K, mask: ^uint32(0)})
		case i.Code == unix.BPF_ALU|unix.BPF_AND|unix.BPF_K:
			c.mask &= i.K
			flow(pc+1, c)
		case i.Code == unix.BPF_JMP|unix.BPF_JA:
			flow(pc+1+int(i.K), c)
		case i.Code&7 == unix.BPF_JMP:
			if c.several || c.word == undefined || c.word == 4 && !isAudit(i.K) {
				return pc, true
			}
			flow(pc+1+int(i.Jt), c)
			flow(pc+1+int(i.Jf), c)
		}
	}
	return 0, false
}

func isAudit(n uint32) bool {
	for i := range archs {
		if archs[i].audit == n {
			return true
		}
	}
	return false
}
