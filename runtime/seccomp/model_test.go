package seccomp

import (
	"fmt"
	"math/rand/v2"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const noSys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// model says what a profile means, rule by rule and without a program. Rules
// with conditions must have one action: then their order does not matter.
func model(p *specs.LinuxSeccomp, chosen []*arch, d *data) uint32 {
	action, err := readAction(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		panic(err)
	}
	a := whose(chosen, d)
	if a == nil {
		if d.arch == unix.AUDIT_ARCH_X86_64 && d.nr == ^uint32(0) && speaks(chosen, colX86_64) {
			return action
		}
		if speaks(chosen, colX86_64) && d.arch == unix.AUDIT_ARCH_X86_64 && d.nr&x32Bit == 0 && enosys(p, chosen, d) {
			return noSys
		}
		return unix.SECCOMP_RET_KILL_THREAD
	}
	if enosys(p, chosen, d) {
		return noSys
	}
	for _, withArgs := range []bool{false, true} {
		for _, call := range p.Syscalls {
			ret, err := readAction(call.Action, call.ErrnoRet)
			if err != nil {
				panic(err)
			}
			if ret == action {
				continue
			}
			for _, name := range call.Names {
				if always, holds := meant(&call, name, a, d); holds && always != withArgs {
					return ret
				}
			}
		}
	}
	return action
}

// whose is the architecture that a call belongs to.
func whose(chosen []*arch, d *data) *arch {
	for _, a := range chosen {
		if a.audit == d.arch && (a.audit != unix.AUDIT_ARCH_X86_64 || (d.nr >= x32Bit) == (a.column == colX32)) {
			return a
		}
	}
	return nil
}

func speaks(chosen []*arch, column int) bool {
	for _, a := range chosen {
		if a.column == column {
			return true
		}
	}
	return false
}

// meant tells whether a rule is about the call, and whether whatever its
// arguments are.
func meant(call *specs.LinuxSyscall, name string, a *arch, d *data) (always, holds bool) {
	line := findSyscall(name, 1)
	if line < 0 {
		return false, false
	}
	if s := a.slot(line); s >= 0 && a.number(s) == d.nr {
		always, holds = true, true
		for _, args := range split(call.Args) {
			al, h := true, true
			for _, c := range args {
				al = al && pointless(c, a)
				h = h && compares(c, a, d)
			}
			if h {
				return al, true
			}
			always, holds = false, false
		}
		if holds {
			return
		}
	}
	carrier, number := carriedBy(line)
	if !a.mux || carrier == noCarrier || a.number(a.carriers()[carrier]) != d.nr || uint32(d.args[0]) != uint32(number) || a.wide && d.args[0] != number {
		return false, false
	}
	for _, args := range split(call.Args) {
		h := true
		for _, c := range args {
			h = h && (c.Index == 0 || compares(c, a, d))
		}
		if h {
			return false, true
		}
	}
	return false, false
}

func pointless(c specs.LinuxSeccompArg, a *arch) bool {
	return c.Op == specs.OpMaskedEqual && (c.Value == 0 || !a.wide && uint32(c.Value) == 0)
}

func compares(c specs.LinuxSeccompArg, a *arch, d *data) bool {
	x, v, w := d.args[c.Index], c.Value, c.ValueTwo
	if !a.wide {
		x, v, w = x&0xffffffff, v&0xffffffff, w&0xffffffff
	}
	switch c.Op {
	case specs.OpNotEqual:
		return x != v
	case specs.OpLessThan:
		return x < v
	case specs.OpLessEqual:
		return x <= v
	case specs.OpEqualTo:
		return x == v
	case specs.OpGreaterEqual:
		return x >= v
	case specs.OpGreaterThan:
		return x > v
	}
	return x&v == w&v
}

// everyCall gives all numbers that may matter on the architectures, and one
// on all others.
func everyCall(chosen []*arch, check func(audit, nr uint32)) {
	for _, a := range chosen {
		for nr := a.base; nr < a.base+600; nr++ {
			check(a.audit, nr)
		}
		for _, nr := range []uint32{0, a.base - 1, armPrivate - 1, armPrivate, armPrivate + 1, armPrivate + 2, armPrivate + 5, armPrivate + 6, armPrivate + 16,
			0x3fffffff, 0x40000000, 0x40000300, 0x7fffffff, 0x80000000, 0xbfffffff, 0xc0000000, 0xfffffffe, 0xffffffff} {
			check(a.audit, nr)
		}
	}
	for i := range archs {
		check(archs[i].audit, 1)
	}
}

// modelAgrees tells whether our program does what the model says.
func modelAgrees(p *specs.LinuxSeccomp, goarch string) bool { return modelDiffers(p, goarch) == "" }

func modelDiffers(p *specs.LinuxSeccomp, goarch string) (difference string) {
	f, err := Compile(p, goarch)
	if err != nil {
		return err.Error()
	}
	chosen, err := chooseArchs(p.Architectures, goarch)
	if err != nil {
		return err.Error()
	}
	if f == nil {
		return ""
	}
	samples := sampleArgs(p)
	everyCall(chosen, func(audit, nr uint32) {
		for _, args := range samples {
			d := &data{nr: nr, arch: audit, args: args}
			got, want := run(f.Program, d, chosen[0].big), model(p, chosen, d)
			if got.ret != want {
				difference = fmt.Sprintf("arch %#x nr %#x args %#x: %#x, the model says %#x\n%s", audit, nr, args, got.ret, want, text(f.Program))
				return
			}
			if !got.looked {
				break
			}
		}
	})
	return difference
}

// TestModel holds programs for random profiles against their meaning.
func TestModel(t *testing.T) {
	for seed := range uint64(*profiles) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := machines[r.IntN(len(machines))]
		p := randomProfile(r, oneAction)
		p.Architectures = m.extra
		if d := modelDiffers(p, m.goarch); d != "" {
			small := shrink(p, func(p *specs.LinuxSeccomp) bool { return modelDiffers(p, m.goarch) != "" })
			t.Fatalf("seed %d: %s\nwith the profile\n%s", seed, modelDiffers(small, m.goarch), show(small))
		}
	}
}

// enosys is runc's patch of libseccomp's program: where it makes a verdict
// ENOSYS. See the package documentation for what is otherwise on ARM and where
// calls go through a carrier.
func enosys(p *specs.LinuxSeccomp, chosen []*arch, d *data) bool {
	switch p.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace:
		return false
	}
	for _, a := range chosen {
		if a.audit != d.arch {
			continue
		}
		if a.audit == unix.AUDIT_ARCH_X86_64 && (d.nr&x32Bit != 0) != (a.column == colX32) {
			continue
		}
		last := -1
		for _, call := range p.Syscalls {
			for _, name := range call.Names {
				line := findSyscall(name, 1)
				if line < 0 {
					continue
				}
				if s := a.slot(line); s < privateSlot {
					last = max(last, s)
				}
				if c, _ := carriedBy(line); a.mux && c != noCarrier {
					last = max(last, a.carriers()[c])
				}
			}
		}
		if last < 0 {
			return false
		}
		if (a.column == colS390 || a.column == colS390X) && d.nr == 0 {
			return true
		}
		if a.column == colARM && d.nr >= armPrivate && d.nr < armPrivate+16 {
			return false
		}
		return d.nr > a.number(last)
	}
	return false
}
