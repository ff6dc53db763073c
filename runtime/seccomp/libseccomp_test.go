package seccomp

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var profiles = flag.Int("profiles", 60, "random profiles that are compared with libseccomp")

// TestTableLibseccomp compares the numbers of all system calls.
func TestTableLibseccomp(t *testing.T) {
	o := newOracle(t)
	for _, name := range callNames() {
		line := findSyscall(name, 1)
		if o.number(t, &archs[0], name) == nrError {
			t.Logf("libseccomp here is too old for %s", name)
			continue
		}
		for i := range archs {
			a := &archs[i]
			theirs := o.number(t, a, name)
			ours := int32(-2)
			if s := a.slot(line); s >= 0 {
				ours = int32(a.number(s))
			}
			switch c, _ := carriedBy(line); {
			case theirs == nrError:
				// libseccomp 2.5 does not know the architecture.
			case a.mux && c != noCarrier && theirs < -1:
				// A pseudo number: the call goes through the carrier, too.
			case max(theirs, -2) != ours && !newer(name, a):
				t.Errorf("%s on %s: %d here, %d in libseccomp", name, a.name, ours, theirs)
			}
		}
	}
}

// newer tells of numbers that came to an architecture, or left it, after
// libseccomp 2.5.4 (Linux 5.17).
func newer(name string, a *arch) bool {
	switch name {
	case "memfd_secret":
		return a.column == colRISCV || a.column == colLoongArch || a.column == colS390 || a.column == colS390X
	case "map_shadow_stack":
		return a.column == colX32
	case "cacheflush":
		return a.column == colPARISC || a.column == colPARISC64
	case "_llseek":
		return a.column == colPARISC64
	case "sys_debug_setcontext", "switch_endian": // not told apart from afar: they share a pseudo number
		return a.column == colPPC || a.column == colPPC64
	case "listns", "rseq_slice_yield": // s390 ended with Linux 6.18
		return a.column == colS390
	}
	return false
}

func callNames() []string {
	var names []string
	for line := range strings.Lines(syscalls) {
		if !strings.HasPrefix(line, "#") {
			names = append(names, strings.TrimSpace(line[:nameLen]))
		}
	}
	return names
}

// A machine is a native architecture and what may be listed besides.
type machine struct {
	goarch string
	extra  []specs.Arch
}

var machines = []machine{
	{"amd64", nil},
	{"amd64", []specs.Arch{specs.ArchX86, specs.ArchX32}},
	{"amd64", []specs.Arch{specs.ArchX86_64, specs.ArchX32}},
	{"amd64", []specs.Arch{specs.ArchAARCH64, specs.ArchARM, specs.ArchRISCV64, specs.ArchMIPSEL, specs.ArchMIPSEL64N32}},
	{"386", []specs.Arch{specs.ArchX86_64}},
	{"386", []specs.Arch{specs.ArchX32}},
	{"arm64", []specs.Arch{specs.ArchARM}},
	{"arm", nil},
	{"riscv64", nil},
	{"mips64le", []specs.Arch{specs.ArchMIPSEL, specs.ArchMIPSEL64N32}},
	{"mips64", []specs.Arch{specs.ArchMIPS, specs.ArchMIPS64N32, specs.ArchPARISC, specs.ArchPARISC64}},
	{"ppc64le", nil},
	{"ppc64", []specs.Arch{specs.ArchPPC}},
	{"s390x", []specs.Arch{specs.ArchS390}},
	// Of libseccomp 2.6:
	{"loong64", []specs.Arch{specs.ArchSH}},
	{"mips", []specs.Arch{specs.ArchM68K, specs.ArchSHEB}},
}

// TestLibseccomp compares verdicts for docker's profile on every machine.
func TestLibseccomp(t *testing.T) {
	o := newOracle(t)
	for i, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_BPF"}, allCaps} {
		for j, m := range machines {
			if i > 0 && j > 1 {
				break // capabilities are the same on all
			}
			t.Run(fmt.Sprint(m.goarch, m.extra, len(caps)), func(t *testing.T) {
				p := docker(t, caps...)
				p.Architectures = m.extra
				c := comparer{t: t, o: o, goarch: m.goarch}
				if c.of(p) == 0 {
					t.Skip("libseccomp here does not know the architectures")
				}
			})
		}
	}
}

// TestLibseccompRandom compares verdicts for random profiles. Where
// libseccomp's answer differs from what the rules say (model_test.go), or
// rules contradict each other in several conditions, it is only counted.
func TestLibseccompRandom(t *testing.T) {
	o := newOracle(t)
	var sum comparer
	for seed := range uint64(*profiles) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := machines[r.IntN(len(machines))]
		style := style(seed) % styles
		p := randomProfile(r, style)
		p.Architectures = m.extra
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := comparer{t: t, o: o, goarch: m.goarch, style: style}
			c.of(p)
			sum.refused += c.refused
			sum.confused += c.confused
			sum.hangs += c.hangs
			sum.loses += c.loses
			sum.quarrels += c.quarrels
		})
	}
	t.Logf("of %d profiles %d are refused by both as rules conflict; libseccomp makes a wrong program of %d, loses a rule of %d, hangs on %d; %d with contradicting rules differ",
		*profiles, sum.refused, sum.confused, sum.loses, sum.hangs, sum.quarrels)
	if *profiles >= 60 && sum.loses > *profiles/10 {
		t.Errorf("libseccomp is said to lose rules of %d profiles: more likely it is us who do not", sum.loses)
	}
}

// A comparer holds programs of ours against those of libseccomp.
type comparer struct {
	t      *testing.T
	o      *oracle
	goarch string
	style  style

	// Profiles that
	refused  int // neither side compiles
	confused int // libseccomp compiles wrongly: see there
	hangs    int // it never comes to an end with
	loses    int // it forgets a rule of
	quarrels int // contradict themselves
}

// of compares one profile, and gives how many verdicts it has looked at.
func (c *comparer) of(p *specs.LinuxSeccomp) int {
	c.t.Helper()
	chosen, err := chooseArchs(p.Architectures, c.goarch)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, a := range chosen {
		if c.o.number(c.t, a, "read") == nrError {
			return 0
		}
	}
	c.forget(p, chosen)
	n, difference := c.compare(p, chosen)
	switch {
	case difference == "":
	case c.style == severalActions:
		c.quarrels = 1
	case c.style == oneAction && severalConds(p) && modelAgrees(p, c.goarch):
		c.loses = 1
	default:
		small := shrink(p, func(p *specs.LinuxSeccomp) bool {
			_, d := c.compare(p, chosen)
			return d != ""
		})
		_, difference = c.compare(small, chosen)
		c.t.Errorf("%s\nwith the profile\n%s", difference, show(small))
	}
	return n
}

// severalConds: only of rules with several conditions does libseccomp lose some.
func severalConds(p *specs.LinuxSeccomp) bool {
	return slices.ContainsFunc(p.Syscalls, func(c specs.LinuxSyscall) bool { return len(c.Args) > 1 })
}

// compare gives what differs for a profile, "" for nothing, and how many
// verdicts were compared.
func (c *comparer) compare(p *specs.LinuxSeccomp, chosen []*arch) (int, string) {
	f, ourErr := Compile(p, c.goarch)
	verdicts := 0
	for _, optimize := range []int{1, 2} {
		theirs, err := c.o.compile(c.t, p, chosen, optimize)
		if err == errHangs {
			c.hangs = 1
			continue
		}
		if err != nil || ourErr != nil {
			if err == unix.EEXIST && ourErr != nil && strings.Contains(ourErr.Error(), errConflict.Error()) {
				c.refused = 1
				continue
			}
			if err == unix.EEXIST && ourErr == nil && c.style != oneAction {
				// We see that a rule is hidden by a wider one, and take
				// it out, where libseccomp does not always.
				c.quarrels = 1
				continue
			}
			return 0, fmt.Sprintf("libseccomp: %v, here: %v", err, ourErr)
		}
		if f == nil {
			// Without rules libseccomp's program does nothing but kill
			// who is of another architecture.
			if named(p, chosen) {
				return 0, "no filter here"
			}
			return 1, ""
		}
		valid(c.t, f.Program)
		if _, yes := confused(theirs); yes {
			c.confused = 1
			continue
		}
		n, difference := c.verdicts(p, chosen, f.Program, theirs)
		if difference != "" {
			return 0, fmt.Sprintf("optimize %d: %s", optimize, difference)
		}
		verdicts += n
	}
	return verdicts, ""
}

// named tells whether a rule of the profile says something.
func named(p *specs.LinuxSeccomp, chosen []*arch) bool {
	for _, call := range p.Syscalls {
		for _, name := range call.Names {
			for _, a := range chosen {
				line := findSyscall(name, 1)
				c, _ := carriedBy(line)
				if call.Action != p.DefaultAction && (a.slot(line) >= 0 || a.mux && c != noCarrier) {
					return true
				}
			}
		}
	}
	return false
}

// forget takes out of the profile what this libseccomp does not know, or not
// as the newest kernel has it.
func (c *comparer) forget(p *specs.LinuxSeccomp, chosen []*arch) {
	for i := range p.Syscalls {
		var known []string
		for _, name := range p.Syscalls[i].Names {
			old := c.o.number(c.t, chosen[0], name) == nrError
			for _, a := range chosen {
				old = old || newer(name, a)
			}
			if !old {
				known = append(known, name)
			}
		}
		p.Syscalls[i].Names = known
	}
}

// verdicts runs both programs for all numbers.
func (c *comparer) verdicts(p *specs.LinuxSeccomp, chosen []*arch, ours, theirs []unix.SockFilter) (n int, difference string) {
	big := chosen[0].big
	samples := sampleArgs(p)
	everyCall(chosen, func(audit, nr uint32) {
		for _, args := range samples {
			if c.style == oneCondition {
				// For others it depends on the order of all rules what
				// libseccomp answers.
				for i := range args {
					args[i] &= 0xffffffff
				}
			}
			d := &data{nr: nr, arch: audit, args: args}
			got, want := run(ours, d, big), run(theirs, d, big)
			if enosys(p, chosen, d) {
				want.ret = noSys
			}
			n++
			if got.ret != want.ret {
				difference = fmt.Sprintf("arch %#x nr %#x args %#x: %#x here, %#x in libseccomp", audit, nr, args, got.ret, want.ret)
				if len(ours)+len(theirs) < 200 {
					difference += fmt.Sprintf("\nhere:\n%s\nlibseccomp:\n%s", text(ours), text(theirs))
				}
				return
			}
			if !got.looked && !want.looked {
				break // other arguments change nothing
			}
		}
	})
	return n, difference
}
