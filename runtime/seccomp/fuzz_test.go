package seccomp

import (
	"math/rand/v2"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A tape makes the choices of randomProfile: a byte decides each. When it is
// used up the choices go on as before.
type tape struct {
	choices []byte
	n       int
}

func (t *tape) Uint64() uint64 {
	if len(t.choices) == 0 {
		return 0
	}
	t.n++
	b := t.choices[(t.n-1)%len(t.choices)]
	return uint64(b)*0x0101010101010101 + uint64(t.n)
}

// FuzzCompile: whatever a profile says, the result is an error or a program
// that the kernel takes, and with one action it does what the model says.
func FuzzCompile(f *testing.F) {
	for seed := range byte(9) {
		choices := make([]byte, 200)
		for i := range choices {
			choices[i] = byte(i) * (2*seed + 1)
		}
		f.Add(choices, "read", "SCMP_ACT_ERRNO", seed)
	}
	f.Fuzz(func(t *testing.T, choices []byte, name, action string, machine byte) {
		if len(choices) == 0 || name == "" {
			return
		}
		m := machines[int(machine>>1)%len(machines)]
		kind := style(machine>>4) % styles
		p := randomProfile(rand.New(&tape{choices: choices}), kind)
		if machine&1 == 0 {
			p.Architectures = m.extra
		}
		for i := range p.Syscalls {
			p.Syscalls[i].Names = append(p.Syscalls[i].Names, name)
		}
		if machine&2 == 0 {
			p.DefaultAction = specs.LinuxSeccompAction(action)
		}
		filter, err := Compile(p, m.goarch)
		if err != nil || filter == nil {
			return
		}
		valid(t, filter.Program)
		if kind == oneAction {
			if d := modelDiffers(p, m.goarch); d != "" {
				t.Error(d)
			}
		}
	})
}
