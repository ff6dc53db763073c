package seccomp

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data, with the arguments as numbers: the byte order is
// that of the architecture which the program is for.
type data struct {
	nr, arch uint32
	args     [seccompArgs]uint64
}

func (d *data) word(offset uint32, big bool) uint32 {
	switch {
	case offset == 0:
		return d.nr
	case offset == 4:
		return d.arch
	case offset < 16 || offset >= 64 || offset%4 != 0:
		panic(fmt.Sprintf("load from offset %d", offset))
	}
	v := d.args[(offset-16)/8]
	if (offset%8 == 4) != big {
		return uint32(v >> 32)
	}
	return uint32(v)
}

// result is what a program returns, after how many instructions, and whether
// it has looked at the arguments.
type result struct {
	ret    uint32
	steps  int
	looked bool
}

// run executes a program.
// It panics where the kernel would refuse to install (seccomp_check_filter,
// bpf_check_classic).
func run(prog []unix.SockFilter, d *data, big bool) (r result) {
	var acc uint32
	for pc := 0; ; pc++ {
		i := &prog[pc]
		r.steps++
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = d.word(i.K, big)
			r.looked = r.looked || i.K >= 16
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			pc += branch(acc == i.K, i)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			pc += branch(acc > i.K, i)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			pc += branch(acc >= i.K, i)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			pc += branch(acc&i.K != 0, i)
		case unix.BPF_RET | unix.BPF_K:
			r.ret = i.K
			return r
		default:
			panic(fmt.Sprintf("instruction %d has code %#x", pc, i.Code))
		}
	}
}

func branch(yes bool, i *unix.SockFilter) int {
	if yes {
		return int(i.Jt)
	}
	return int(i.Jf)
}

// text prints a program, one instruction a line, as bpf_dbg does.
func text(prog []unix.SockFilter) string {
	var b strings.Builder
	for pc, i := range prog {
		fmt.Fprintf(&b, "%4d  ", pc)
		jump := func(name string) {
			fmt.Fprintf(&b, "%s #%#x, %d, %d\n", name, i.K, pc+1+int(i.Jt), pc+1+int(i.Jf))
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			fmt.Fprintf(&b, "ld [%d]\n", i.K)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			fmt.Fprintf(&b, "and #%#x\n", i.K)
		case unix.BPF_JMP | unix.BPF_JA:
			fmt.Fprintf(&b, "ja %d\n", pc+1+int(i.K))
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump("jeq")
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump("jgt")
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump("jge")
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump("jset")
		case unix.BPF_RET | unix.BPF_K:
			fmt.Fprintf(&b, "ret #%#x\n", i.K)
		default:
			fmt.Fprintf(&b, "? %#x\n", i.Code)
		}
	}
	return b.String()
}

// valid checks what the kernel checks of a program before it installs it.
func valid(t testing.TB, prog []unix.SockFilter) {
	t.Helper()
	if len(prog) == 0 || len(prog) > unix.BPF_MAXINSNS {
		t.Fatalf("%d instructions", len(prog))
	}
	for pc, i := range prog {
		end := pc + 1
		switch {
		case i.Code == unix.BPF_RET|unix.BPF_K:
			continue
		case i.Code == unix.BPF_JMP|unix.BPF_JA:
			end += int(i.K)
		case i.Code&7 == unix.BPF_JMP:
			end += max(int(i.Jt), int(i.Jf))
		}
		if end >= len(prog) {
			t.Fatalf("instruction %d goes beyond the end:\n%s", pc, text(prog))
		}
	}
	if pc, yes := confused(prog); yes {
		t.Fatalf("instruction %d does not know what it compares:\n%s", pc, text(prog))
	}
}
