package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/runtime/step"
)

// The modes and flags of memory policies, in the order of linux/mempolicy.h.
var (
	memoryModes = [...]specs.MemoryPolicyModeType{specs.MpolDefault, specs.MpolPreferred, specs.MpolBind,
		specs.MpolInterleave, specs.MpolLocal, specs.MpolPreferredMany, specs.MpolWeightedInterleave}
	memoryFlags = [...]struct {
		name specs.MemoryPolicyFlagType
		bit  uint64
	}{{specs.MpolFNumaBalancing, 1 << 13}, {specs.MpolFRelativeNodes, 1 << 14}, {specs.MpolFStaticNodes, 1 << 15}}
)

// MemoryPolicyNames are the modes and flags that are understood, for the command features.
func MemoryPolicyNames() (modes, flags []string) {
	for _, m := range memoryModes {
		modes = append(modes, string(m))
	}
	for _, f := range memoryFlags {
		flags = append(flags, string(f.name))
	}
	return modes, flags
}

func memoryPolicy(p *specs.LinuxMemoryPolicy) (step.Step, error) {
	mode := slices.Index(memoryModes[:], p.Mode)
	if mode < 0 {
		return nil, fmt.Errorf("invalid memory policy mode %q", p.Mode)
	}
	s := step.MemoryPolicy{Mode: uint64(mode), Text: string(p.Mode) + " " + p.Nodes}
	for _, f := range p.Flags {
		i := slices.IndexFunc(memoryFlags[:], func(k struct {
			name specs.MemoryPolicyFlagType
			bit  uint64
		}) bool {
			return k.name == f
		})
		if i < 0 {
			return nil, fmt.Errorf("invalid memory policy flag %q", f)
		}
		s.Mode |= memoryFlags[i].bit
	}
	nodes, err := parseList(p.Nodes)
	if err != nil {
		return nil, fmt.Errorf("invalid memory policy nodes %q: %w", p.Nodes, err)
	}
	switch p.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if len(nodes) > 0 {
			return nil, fmt.Errorf("invalid memory policy: mode requires 0 nodes but got %d", len(nodes))
		}
	default:
		if len(nodes) == 0 {
			return nil, fmt.Errorf("invalid memory policy: mode requires at least one node but got 0")
		}
	}
	s.Nodes = bitMask(nodes)
	return s, nil
}

// maxListed bounds lists of processors and NUMA nodes: CONFIG_NR_CPUS and
// MAX_NUMNODES are at most this.
const maxListed = 8192

// parseList reads "0-2,4" (cpuset(7), "List format").
func parseList(s string) ([]int, error) {
	var out []int
	if s = strings.TrimSpace(s); s == "" {
		return nil, nil
	}
	for _, part := range strings.Split(s, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", from)
		}
		b := a
		if ranged {
			if b, err = strconv.Atoi(to); err != nil {
				return nil, fmt.Errorf("%q is not a number", to)
			}
		}
		if a < 0 || b < a || b >= maxListed {
			return nil, fmt.Errorf("%q is not a range from 0 to %d", part, maxListed-1)
		}
		for n := a; n <= b; n++ {
			out = append(out, n)
		}
	}
	return out, nil
}

// bitMask sets a bit for each number, in whole words of 64 bits.
func bitMask(numbers []int) []byte {
	var mask []byte
	for _, n := range numbers {
		for len(mask) <= n/8 {
			mask = append(mask, make([]byte, 8)...)
		}
		mask[n/8] |= 1 << (n % 8)
	}
	return mask
}

// affinity binds a process to a list of processors; none: nothing.
func affinity(list string) ([]step.Step, error) {
	cpus, err := parseList(list)
	if err != nil {
		return nil, fmt.Errorf("invalid CPU affinity %q: %w", list, err)
	}
	if len(cpus) == 0 {
		return nil, nil
	}
	return []step.Step{step.Affinity{Mask: bitMask(cpus), Text: list}}, nil
}
