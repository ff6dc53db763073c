package engine

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// ProcessStart reads field 22 of /proc/PID/stat: clock ticks since boot at which
// the process started. With BootID it tells a process from a later one of the same
// number. false if it is gone or a zombie.
func ProcessStart(pid int) (uint64, bool) {
	f := processStat(pid)
	if f == nil || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	t, err := strconv.ParseUint(f[19], 10, 64)
	return t, err == nil
}

// Flags of a process in linux/sched.h: PF_EXITING, PF_FORKNOEXEC.
const exiting, forkNoExec = 0x4, 0x40

// Unexecuted tells whether a process has not executed a program yet.
func Unexecuted(pid int) bool {
	f := processStat(pid)
	return f != nil && processFlags(f)&forkNoExec != 0
}

// processFlags is field 9 of /proc/PID/stat.
func processFlags(stat []string) uint64 {
	flags, err := strconv.ParseUint(stat[6], 10, 32)
	if err != nil {
		return 0
	}
	return flags
}

// processStat are the fields of /proc/PID/stat from the third on
// (proc_pid_stat(5)); nil if there are none.
func processStat(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(b, ')') // the name may hold anything
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return nil
	}
	return f
}

// BootID is another one after each boot (random(4)); "" without /proc.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
