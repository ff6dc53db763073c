package cgroups

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DeviceRule allows or denies access to device nodes; of several that speak of
// the same access the last one counts.
type DeviceRule struct {
	Allow        bool
	Type         byte   // 'b', 'c', or 'a' for both
	Major, Minor int64  // -1: any
	Access       string // of r, w, m; empty: all
}

// Values of struct bpf_cgroup_dev_ctx (linux/bpf.h).
const (
	devBlock, devChar           = 1, 2
	accMknod, accRead, accWrite = 1, 2, 4
	progTypeCgroupDevice        = 15
	attachCgroupDevice          = 6
	attachAllowMulti            = 2
	bpfProgLoad, bpfProgAttach  = 5, 8
)

// insn is struct bpf_insn.
type insn struct {
	op  uint8
	reg uint8 // destination, source in the upper half
	off int16
	imm int32
}

// Operations and registers of the filter (Documentation/bpf/standardization).
const (
	ldxW    = 0x61 // dst = *(u32 *)(src + off)
	mov64   = 0xbf // dst = src
	mov32k  = 0xb4
	and32k  = 0x54
	rsh32k  = 0x74
	jne32k  = 0x56
	jneX    = 0x5e
	jeq32k  = 0x16
	exit    = 0x95
	ctxReg  = 1
	kind    = 2
	access  = 3
	major   = 4
	minor   = 5
	scratch = 6
)

// deviceProgram compiles rules: checked from the last to the first, the first
// that speaks of the access decides; without any it is denied. An allow rule
// must cover all of the access, a deny rule any of it.
func deviceProgram(rules []DeviceRule) []insn {
	p := []insn{
		{ldxW, kind | ctxReg<<4, 0, 0},
		{mov64, access | kind<<4, 0, 0},
		{and32k, kind, 0, 0xffff},
		{rsh32k, access, 0, 16},
		{ldxW, major | ctxReg<<4, 4, 0},
		{ldxW, minor | ctxReg<<4, 8, 0},
	}
	for i := len(rules) - 1; i >= 0; i-- {
		rule := rules[i].compile()
		p = append(p, rule...)
		if len(rule) == 2 { // it speaks of everything: the kernel refuses code that is never reached
			return p
		}
	}
	return append(p, insn{mov32k, 0, 0, 0}, insn{exit, 0, 0, 0})
}

// compile gives the instructions of one rule; each test that fails jumps past
// its end.
func (r DeviceRule) compile() []insn {
	bits := accessBits(r.Access)
	var b []insn
	if r.Type == 'b' || r.Type == 'c' {
		t := int32(devBlock)
		if r.Type == 'c' {
			t = devChar
		}
		b = append(b, insn{jne32k, kind, 0, t})
	}
	if r.Major >= 0 {
		b = append(b, insn{jne32k, major, 0, int32(r.Major)})
	}
	if r.Minor >= 0 {
		b = append(b, insn{jne32k, minor, 0, int32(r.Minor)})
	}
	if bits != accMknod|accRead|accWrite {
		b = append(b, insn{mov64, scratch | access<<4, 0, 0}, insn{and32k, scratch, 0, bits})
		if r.Allow {
			b = append(b, insn{jneX, scratch | access<<4, 0, 0})
		} else {
			b = append(b, insn{jeq32k, scratch, 0, 0})
		}
	}
	verdict := int32(0)
	if r.Allow {
		verdict = 1
	}
	b = append(b, insn{mov32k, 0, 0, verdict}, insn{exit, 0, 0, 0})
	for i := range b {
		switch b[i].op {
		case jne32k, jneX, jeq32k:
			b[i].off = int16(len(b) - i - 1)
		}
	}
	return b
}

func accessBits(s string) (bits int32) {
	for c, bit := range map[string]int32{"r": accRead, "w": accWrite, "m": accMknod} {
		if s == "" || strings.Contains(s, c) {
			bits |= bit
		}
	}
	return bits
}

// DeviceFilter attaches rules to the cgroup whose directory is open. They hold
// for its processes beside those of the cgroups above (bpf(2), Linux 4.15; it
// wants CAP_BPF or CAP_SYS_ADMIN and CAP_NET_ADMIN). The filter goes with the cgroup.
func DeviceFilter(dir *os.File, rules []DeviceRule) error {
	prog := deviceProgram(rules)
	license := []byte("Apache-2.0\x00")
	load := struct {
		progType, count    uint32
		insns, license     uint64
		logLevel, logSize  uint32
		logBuf             uint64
		kernVersion, flags uint32
		name               [16]byte
	}{progType: progTypeCgroupDevice, count: uint32(len(prog)),
		insns: uint64(uintptr(unsafe.Pointer(&prog[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	copy(load.name[:], "berth_devices")
	fd, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgLoad, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	runtime.KeepAlive(prog)
	runtime.KeepAlive(license)
	if errno != 0 {
		return fmt.Errorf("load the device filter: bpf: %w", errno)
	}
	defer unix.Close(int(fd))
	attach := struct{ target, prog, kind, flags uint32 }{uint32(dir.Fd()), uint32(fd), attachCgroupDevice, attachAllowMulti}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgAttach, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		return fmt.Errorf("attach the device filter to %s: bpf: %w", dir.Name(), errno)
	}
	return nil
}
