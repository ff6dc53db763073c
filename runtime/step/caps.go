package step

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// DropBounding takes capabilities out of the bounding set, so that not even a
// set-uid program regains them (capabilities(7)). It stands before the change of
// user, while CAP_SETPCAP is still there.
type DropBounding struct{ Drop uint64 } // bit n: capability n

func (s DropBounding) String() string { return fmt.Sprintf("drop capabilities %#x for good", s.Drop) }

// Calls implements Step.
func (s DropBounding) Calls() []Call {
	calls := make([]Call, 0, bits.OnesCount64(s.Drop))
	for n := range 64 {
		if s.Drop>>n&1 == 1 {
			calls = append(calls, newCall("prctl", unix.SYS_PRCTL, Flags(unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"), capability(n)))
		}
	}
	return calls
}

// Capabilities sets what the process may do. It stands after the change of user,
// which would clear the effective set.
type Capabilities struct {
	Effective, Permitted, Inheritable, Ambient uint64
}

func (s Capabilities) String() string {
	return fmt.Sprintf("capabilities: effective %#x, permitted %#x, inheritable %#x, ambient %#x",
		s.Effective, s.Permitted, s.Inheritable, s.Ambient)
}

// Calls implements Step.
func (s Capabilities) Calls() []Call {
	header := Blob("{_LINUX_CAPABILITY_VERSION_3, 0}",
		binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, unix.LINUX_CAPABILITY_VERSION_3), 0))
	var data []byte
	for half := range 2 {
		for _, set := range []uint64{s.Effective, s.Permitted, s.Inheritable} {
			data = binary.NativeEndian.AppendUint32(data, uint32(set>>(32*half)))
		}
	}
	sets := Arg{To: &Memory{Bytes: data}, show: func(Arg) string {
		return fmt.Sprintf("{effective=%#x, permitted=%#x, inheritable=%#x}", s.Effective, s.Permitted, s.Inheritable)
	}}
	ambient := Flags(unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT")
	calls := []Call{
		newCall("capset", unix.SYS_CAPSET, header, sets),
		newCall("prctl", unix.SYS_PRCTL, ambient, Flags(unix.PR_CAP_AMBIENT_CLEAR_ALL, "PR_CAP_AMBIENT_CLEAR_ALL"), Int(0), Int(0), Int(0)),
	}
	for n := range 64 {
		if s.Ambient>>n&1 == 1 {
			calls = append(calls, newCall("prctl", unix.SYS_PRCTL, ambient,
				Flags(unix.PR_CAP_AMBIENT_RAISE, "PR_CAP_AMBIENT_RAISE"), capability(n), Int(0), Int(0)))
		}
	}
	return calls
}

// capNames is the order of linux/capability.h.
var capNames = [...]string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
	"SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE"}

// LastCap is the highest that this package knows, CAP_CHECKPOINT_RESTORE (Linux 5.9).
const LastCap = len(capNames) - 1

// CapName is the name of capability n: CAP_CHOWN.
func CapName(n int) string {
	if n < len(capNames) {
		return "CAP_" + capNames[n]
	}
	return fmt.Sprintf("CAP_%d", n)
}

func capability(n int) Arg {
	return Arg{Value: uint64(n), show: func(a Arg) string { return CapName(int(a.Value)) }}
}

// CapNumber is the number of a capability by its full name, -1 if unknown.
func CapNumber(name string) int {
	for n, s := range capNames {
		if len(name) == len(s)+4 && name[:4] == "CAP_" && name[4:] == s {
			return n
		}
	}
	return -1
}
