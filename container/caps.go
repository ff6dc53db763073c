package container

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-run/berth/runtime/step"
)

// defaultCaps are docker's fourteen: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID
// SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP.
const defaultCaps uint64 = 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<13 | 1<<18 | 1<<27 | 1<<29 | 1<<31

// capNumber takes sys_admin, CAP_SYS_ADMIN and the like.
func capNumber(name string) (int, error) {
	n := step.CapNumber("CAP_" + strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	if n < 0 {
		return 0, fmt.Errorf("unknown capability %q", name)
	}
	return n, nil
}

// capSet is what the process may have: docker's default with --cap-add and
// --cap-drop. bound is berth's own bounding set; nothing beyond it can be given.
func capSet(add, drop []string, privileged bool, bound uint64) (uint64, error) {
	set := defaultCaps & bound
	if privileged {
		set = bound
	}
	all := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, "ALL") || strings.EqualFold(s, "CAP_ALL") })
	}
	if all(drop) {
		set = 0
	}
	if all(add) {
		set = bound
	}
	for _, name := range drop {
		if all([]string{name}) {
			continue
		}
		n, err := capNumber(name)
		if err != nil {
			return 0, fmt.Errorf("--cap-drop: %w", err)
		}
		set &^= 1 << n
	}
	for _, name := range add {
		if all([]string{name}) {
			continue
		}
		n, err := capNumber(name)
		if err != nil {
			return 0, fmt.Errorf("--cap-add: %w", err)
		}
		if bound&(1<<n) == 0 {
			return 0, fmt.Errorf("--cap-add %s: berth itself does not have this capability in its bounding set", name)
		}
		set |= 1 << n
	}
	return set, nil
}

// capList spells a set as the OCI spec does.
func capList(set uint64) []string {
	list := make([]string, 0, 16)
	for i := range step.LastCap + 1 {
		if set&(1<<i) != 0 {
			list = append(list, step.CapName(i))
		}
	}
	return list
}

// boundingSet reads CapBnd of /proc/self/status; capabilities without a name here are left out.
func boundingSet() uint64 {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return defaultCaps
	}
	_, line, ok := bytes.Cut(b, []byte("\nCapBnd:\t"))
	if !ok || len(line) < 16 {
		return defaultCaps
	}
	n, err := strconv.ParseUint(string(line[:16]), 16, 64)
	if err != nil {
		return defaultCaps
	}
	return n & (1<<(step.LastCap+1) - 1)
}
