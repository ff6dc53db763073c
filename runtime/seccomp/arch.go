package seccomp

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An arch is an architecture of the spec: how the kernel names it in
// seccomp_data, numbers its system calls and lays out their arguments.
type arch struct {
	name   specs.Arch
	goarch string // "" where Go has no port
	audit  uint32 // AUDIT_ARCH_*, linux/audit.h
	column int    // in syscalls.txt
	base   uint32 // of its numbers
	wide   bool   // 64-bit arguments
	big    bool   // big-endian
	mux    bool   // has socketcall(2) and ipc(2)
}

// Columns of syscalls.txt, in the order of gentable.go.
const (
	colX86 = iota
	colX86_64
	colX32
	colARM
	colAArch64
	colLoongArch
	colRISCV
	colM68K
	colMIPSO32
	colMIPSN64
	colMIPSN32
	colPARISC
	colPARISC64
	colPPC
	colPPC64
	colS390
	colS390X
	colSH
	colMux
)

const (
	x32Bit = 0x40000000 // __X32_SYSCALL_BIT, asm/unistd.h of x86

	// MIPS numbers its ABIs apart (asm/unistd.h).
	baseO32, baseN64, baseN32 = 4000, 5000, 6000
)

// archs has all that the spec names. libseccomp has m68k and sh since 2.6.
var archs = [...]arch{
	{name: specs.ArchX86_64, goarch: "amd64", audit: unix.AUDIT_ARCH_X86_64, column: colX86_64, wide: true},
	{name: specs.ArchX86, goarch: "386", audit: unix.AUDIT_ARCH_I386, column: colX86, mux: true},
	{name: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, column: colX32, base: x32Bit},
	{name: specs.ArchAARCH64, goarch: "arm64", audit: unix.AUDIT_ARCH_AARCH64, column: colAArch64, wide: true},
	{name: specs.ArchARM, goarch: "arm", audit: unix.AUDIT_ARCH_ARM, column: colARM},
	{name: specs.ArchLOONGARCH64, goarch: "loong64", audit: unix.AUDIT_ARCH_LOONGARCH64, column: colLoongArch, wide: true},
	{name: specs.ArchRISCV64, goarch: "riscv64", audit: unix.AUDIT_ARCH_RISCV64, column: colRISCV, wide: true},
	{name: specs.ArchM68K, audit: unix.AUDIT_ARCH_M68K, column: colM68K, big: true, mux: true},
	{name: specs.ArchMIPS, goarch: "mips", audit: unix.AUDIT_ARCH_MIPS, column: colMIPSO32, base: baseO32, big: true, mux: true},
	{name: specs.ArchMIPSEL, goarch: "mipsle", audit: unix.AUDIT_ARCH_MIPSEL, column: colMIPSO32, base: baseO32, mux: true},
	{name: specs.ArchMIPS64, goarch: "mips64", audit: unix.AUDIT_ARCH_MIPS64, column: colMIPSN64, base: baseN64, wide: true, big: true},
	{name: specs.ArchMIPSEL64, goarch: "mips64le", audit: unix.AUDIT_ARCH_MIPSEL64, column: colMIPSN64, base: baseN64, wide: true},
	{name: specs.ArchMIPS64N32, audit: unix.AUDIT_ARCH_MIPS64N32, column: colMIPSN32, base: baseN32, big: true},
	{name: specs.ArchMIPSEL64N32, audit: unix.AUDIT_ARCH_MIPSEL64N32, column: colMIPSN32, base: baseN32},
	{name: specs.ArchPARISC, audit: unix.AUDIT_ARCH_PARISC, column: colPARISC, big: true},
	{name: specs.ArchPARISC64, audit: unix.AUDIT_ARCH_PARISC64, column: colPARISC64, wide: true, big: true},
	{name: specs.ArchPPC, goarch: "ppc", audit: unix.AUDIT_ARCH_PPC, column: colPPC, big: true, mux: true},
	{name: specs.ArchPPC64, goarch: "ppc64", audit: unix.AUDIT_ARCH_PPC64, column: colPPC64, wide: true, big: true, mux: true},
	{name: specs.ArchPPC64LE, goarch: "ppc64le", audit: unix.AUDIT_ARCH_PPC64LE, column: colPPC64, wide: true, mux: true},
	{name: specs.ArchS390, goarch: "s390", audit: unix.AUDIT_ARCH_S390, column: colS390, big: true, mux: true},
	{name: specs.ArchS390X, goarch: "s390x", audit: unix.AUDIT_ARCH_S390X, column: colS390X, wide: true, big: true, mux: true},
	{name: specs.ArchSH, audit: unix.AUDIT_ARCH_SHEL, column: colSH, mux: true},
	{name: specs.ArchSHEB, audit: unix.AUDIT_ARCH_SH, column: colSH, big: true, mux: true},
}

// chooseArchs gives the native architecture and those that the profile lists
// besides. Byte order decides where an argument lies, so it must be one.
func chooseArchs(listed []specs.Arch, goarch string) ([]*arch, error) {
	var out []*arch
	for i := range archs {
		if archs[i].goarch == goarch && goarch != "" {
			out = append(out, &archs[i])
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("seccomp: no system call table for GOARCH %q", goarch)
	}
next:
	for _, name := range listed {
		for i := range archs {
			a := &archs[i]
			if a.name != name {
				continue
			}
			if a.big != out[0].big {
				return nil, fmt.Errorf("seccomp: architecture %s has another byte order than %s", name, out[0].name)
			}
			for _, have := range out {
				if have == a {
					continue next
				}
			}
			out = append(out, a)
			continue next
		}
		return nil, fmt.Errorf("seccomp: architecture %q is not one of the OCI spec", name)
	}
	return out, nil
}

// low and high are the offsets of the halves of an argument in seccomp_data.
func (a *arch) low(arg uint8) uint32 {
	if a.big {
		return 16 + 8*uint32(arg) + 4
	}
	return 16 + 8*uint32(arg)
}

func (a *arch) high(arg uint8) uint32 { return a.low(arg) ^ 4 }
