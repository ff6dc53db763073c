package seccomp

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// flagTSync is accepted by runc, although the spec does not have it.
const flagTSync specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

// KnownActions are the actions of a profile, sorted.
func KnownActions() []string {
	return []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
		"SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"}
}

// KnownOperators are the operators of a profile, sorted.
func KnownOperators() []string {
	return []string{"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"}
}

// KnownArchs are the architectures of a profile, sorted.
func KnownArchs() []string {
	out := make([]string, len(archs))
	for i := range archs {
		out[i] = string(archs[i].name)
	}
	slices.Sort(out)
	return out
}

// KnownFlags are the flags of a profile.
func KnownFlags() []string {
	return []string{string(flagTSync), string(specs.LinuxSeccompFlagSpecAllow),
		string(specs.LinuxSeccompFlagLog), string(specs.LinuxSeccompFlagWaitKillableRecv)}
}

// SupportedFlags are the known flags that the running kernel takes, too.
func SupportedFlags() []string {
	var out []string
	for _, f := range KnownFlags() {
		bits := uintptr(unix.SECCOMP_FILTER_FLAG_TSYNC)
		if f != string(flagTSync) {
			n, err := readFlags([]specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(f)})
			if err != nil {
				continue
			}
			bits = uintptr(n)
		}
		if bits == unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV {
			bits |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER // it is an error without
		}
		// The kernel looks at the flags before it reads the program: EFAULT for
		// one that is nowhere, EINVAL for a flag that it does not know (seccomp(2)).
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, bits, 0)
		if errno == unix.EFAULT {
			out = append(out, f)
		}
	}
	return out
}
