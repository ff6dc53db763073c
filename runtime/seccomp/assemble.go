package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A target is where a jump goes: an instruction, counted from the end of the
// program, or, if negative, the return of an action.
type target int64

func returns(action uint32) target { return -1 - target(action) }

func (t target) action() (uint32, bool) { return uint32(-1 - t), t < 0 }

// An assembler lays instructions down from the last to the first. BPF jumps
// forward only, so whatever is jumped to is there already, and how far it is.
type assembler struct {
	code []unix.SockFilter // backwards
	// The nearest instruction that stands for a target: a return, or a long
	// jump to it.
	near []place
}

type place struct {
	t  target
	at int
}

// reach is how far a conditional jump goes at most (struct sock_filter has 8
// bits for it), less the long jumps that may come between.
const reach = 255 - 2

func (a *assembler) put(op uint16, k uint32) target {
	a.code = append(a.code, unix.SockFilter{Code: op, K: k})
	return target(len(a.code) - 1)
}

// load puts a word of seccomp_data into the accumulator.
func (a *assembler) load(offset uint32) target {
	return a.put(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset)
}

// and masks the accumulator.
func (a *assembler) and(mask uint32) target {
	return a.put(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask)
}

// jump compares the accumulator with k and goes to yes or no.
func (a *assembler) jump(op uint16, k uint32, yes, no target) target {
	if yes == no {
		return yes
	}
	y, n := a.find(yes), a.find(no)
	at := a.put(unix.BPF_JMP|op|unix.BPF_K, k)
	a.code[at].Jt = uint8(int(at) - y - 1)
	a.code[at].Jf = uint8(int(at) - n - 1)
	return at
}

// find gives the place of a target within reach of the next jump. Too far, it
// puts a long jump there, or another return: that costs no time.
func (a *assembler) find(t target) int {
	if t >= 0 && len(a.code)-int(t) <= reach {
		return int(t)
	}
	i := slices.IndexFunc(a.near, func(p place) bool { return p.t == t })
	if i < 0 {
		i = len(a.near)
		a.near = append(a.near, place{t, -reach - 1})
	}
	if len(a.code)-a.near[i].at > reach {
		if action, ok := t.action(); ok {
			a.near[i].at = int(a.put(unix.BPF_RET|unix.BPF_K, action))
		} else {
			distance := len(a.code) - int(t) - 1
			a.near[i].at = int(a.put(unix.BPF_JMP|unix.BPF_JA, uint32(distance)))
		}
	}
	return a.near[i].at
}

// preceded puts a load before the instruction laid down last, if that is t:
// else t does without.
func (a *assembler) preceded(t target, offset uint32) target {
	if t < 0 || int(t) != len(a.code)-1 {
		return t
	}
	return a.load(offset)
}

// program is the code in the order of execution. The first instruction is the
// one that was laid down last.
func (a *assembler) program() []unix.SockFilter {
	slices.Reverse(a.code)
	return a.code
}
