package step

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// LeaveMemory gives back all memory that came from the parent, the binary's
// text included: what stays is the region with the plan and the interpreter. A
// container that waits for start so holds some kilobytes, and no container is
// charged for berth.
type LeaveMemory struct{}

func (LeaveMemory) String() string { return "give back the parent's memory, all but this plan" }

// Calls implements Step.
func (LeaveMemory) Calls() []Call {
	return []Call{
		newCall("munmap", unix.SYS_MUNMAP, Null, At(RegionStart, 0)),
		newCall("munmap", unix.SYS_MUNMAP, At(RegionEnd, 0), At(AboveRegion, 0)),
	}
}

// HideBinary points /proc/PID/exe at an empty file in memory, so that a program
// of the container that executes or opens /proc/self/exe does not get hold of
// the host's berth (CVE-2019-5736). It follows LeaveMemory: the kernel answers
// EBUSY while the old binary is mapped. prctl(2) PR_SET_MM_MAP, Linux 3.18; it
// wants CAP_CHECKPOINT_RESTORE over the user namespace and
// CONFIG_CHECKPOINT_RESTORE.
type HideBinary struct{}

func (HideBinary) String() string { return "hide berth's own binary: /proc/self/exe is an empty file" }

// Calls implements Step.
func (HideBinary) Calls() []Call {
	fd := &Result{Name: "exe"}
	// struct prctl_mm_map (linux/prctl.h): 11 addresses, auxv, its size, exe_fd.
	words := []Arg{
		At(RegionStart, 0), At(RegionStart, 1), // code
		At(RegionStart, 0), At(RegionStart, 1), // data
		At(RegionStart, 16), At(RegionStart, 16), // heap, empty
		At(RegionStart, 0),                     // stack
		At(RegionStart, 0), At(RegionStart, 0), // arguments, none
		At(RegionStart, 0), At(RegionStart, 0), // environment, none
	}
	b := make([]byte, 13*8)
	fix := make(map[int]Arg)
	for i, w := range words {
		fix[8*i] = w
	}
	binary.NativeEndian.PutUint32(b[100:], 0) // exe_fd, stored by memfd_create
	m := Arg{To: &Memory{Bytes: b, Fixups: fix, Hole: &Hole{100, fd}}, str: "{…, exe_fd=$exe}"}
	return []Call{
		newCall("memfd_create", unix.SYS_MEMFD_CREATE, Str("berth"), Flags(unix.MFD_CLOEXEC, "MFD_CLOEXEC")).to(fd),
		newCall("prctl", unix.SYS_PRCTL, Flags(unix.PR_SET_MM, "PR_SET_MM"), Flags(unix.PR_SET_MM_MAP, "PR_SET_MM_MAP"), m, Int(len(b)), Int(0)),
	}
}
