package seccomp

import (
	"encoding/json"
	"math/rand/v2"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var allCaps = []string{"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_NET_BROADCAST",
	"CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE",
	"CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_SYSLOG", "CAP_WAKE_ALARM"}

var (
	ops = []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	actions = []specs.LinuxSeccompAction{specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActErrno,
		specs.ActTrace, specs.ActAllow, specs.ActLog}
	values = []uint64{0, 1, 2, 5, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, 1<<32 + 5, 5 << 32, 0xffffffff00000000, 1<<63 + 5, ^uint64(0)}
)

// A style is a kind of random profiles.
type style int

const (
	oneAction      style = iota // all rules have the same action: it is clear what holds
	oneCondition                // rules have one condition with a small number, and different actions
	severalActions              // rules contradict each other
	styles
)

// randomProfile has few system calls and values, so that rules meet.
func randomProfile(r *rand.Rand, s style) *specs.LinuxSeccomp {
	names := callNames()
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = append(names[:r.IntN(20)+1], "read", "socket", "semop", "clone", "socketcall")
	p := &specs.LinuxSeccomp{DefaultAction: pick(r, actions)}
	few, nums, conds := actions, values, 4
	switch s {
	case oneAction:
		few = []specs.LinuxSeccompAction{pick(r, actions)}
	case oneCondition:
		nums, conds = values[:7], 2
	}
	for range r.IntN(40) {
		call := specs.LinuxSyscall{Action: pick(r, few)}
		if call.Action == specs.ActErrno && s != oneAction && r.IntN(2) == 0 {
			call.ErrnoRet = new(uint(r.IntN(200)))
		}
		for range r.IntN(4) {
			call.Names = append(call.Names, pick(r, names))
		}
		if r.IntN(3) > 0 {
			for range r.IntN(conds) {
				call.Args = append(call.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(3)), Op: pick(r, ops), Value: pick(r, nums), ValueTwo: pick(r, nums)})
			}
		}
		p.Syscalls = append(p.Syscalls, call)
	}
	return p
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// sampleArgs gives arguments at, and next to, all that a profile compares
// with, in both halves.
func sampleArgs(p *specs.LinuxSeccomp) [][seccompArgs]uint64 {
	r := rand.New(rand.NewPCG(1, 2))
	near := [seccompArgs][]uint64{}
	for i := range near {
		near[i] = []uint64{0, uint64(i + 1), ^uint64(0)}
	}
	for call := uint64(1); call < 25; call++ {
		near[0] = append(near[0], call) // of socketcall and ipc
	}
	for _, call := range p.Syscalls {
		for _, a := range call.Args {
			v := a.Value
			if a.Op == specs.OpMaskedEqual {
				v = a.ValueTwo&a.Value | r.Uint64()&^a.Value
			}
			near[a.Index] = append(near[a.Index], v, v-1, v+1, v^1<<32, v+1<<32, v-1<<32, v&0xffffffff, v^1<<r.IntN(64))
		}
	}
	var out [][seccompArgs]uint64
	for i := range near {
		for _, v := range near[i] {
			var args [seccompArgs]uint64
			for j := range args {
				args[j] = pick(r, near[j])
			}
			args[i] = v
			out = append(out, args)
		}
	}
	for len(out) > 300 {
		i := r.IntN(len(out))
		out[i] = out[len(out)-1]
		out = out[:len(out)-1]
	}
	return out
}

// shrink leaves out of a profile what it fails without.
func shrink(p *specs.LinuxSeccomp, fails func(*specs.LinuxSeccomp) bool) *specs.LinuxSeccomp {
	small := *p
	for again := true; again; {
		again = false
		try := func(change func(*specs.LinuxSeccomp)) {
			q := small
			q.Syscalls = slices.Clone(small.Syscalls)
			if change(&q); fails(&q) {
				small, again = q, true
			}
		}
		for i := len(small.Syscalls) - 1; i >= 0; i-- {
			try(func(q *specs.LinuxSeccomp) { q.Syscalls = slices.Delete(q.Syscalls, i, i+1) })
		}
		for i := range small.Syscalls {
			for j := len(small.Syscalls[i].Names) - 1; j >= 0; j-- {
				try(func(q *specs.LinuxSeccomp) {
					q.Syscalls[i].Names = slices.Delete(slices.Clone(q.Syscalls[i].Names), j, j+1)
				})
			}
			for j := len(small.Syscalls[i].Args) - 1; j >= 0; j-- {
				try(func(q *specs.LinuxSeccomp) {
					q.Syscalls[i].Args = slices.Delete(slices.Clone(q.Syscalls[i].Args), j, j+1)
				})
			}
		}
	}
	return &small
}

func show(p *specs.LinuxSeccomp) string {
	if len(p.Syscalls) > 0 && len(p.Syscalls[0].Names) > 50 {
		return "(a long profile)"
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
