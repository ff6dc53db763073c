package seccomp

import _ "embed"

// syscalls.txt is used as it is: lines of one length, sorted by name. Nothing
// is unpacked at start-up; a name is found by bisection.
//
//go:generate go run gentable.go -linux $LINUX
//go:embed syscalls.txt
var syscalls string

const (
	nameLen = 28
	lineLen = nameLen + 4*(colMux+1) + 1
)

// privateSlot is the first slot of numbers from armPrivate. Slots below are
// numbers less the base of the architecture.
const (
	privateSlot = 1024
	slots       = privateSlot + 16
	armPrivate  = 0xf0000 // __ARM_NR_BASE
)

// findSyscall gives the line of a system call, or -1. Profiles are sorted
// mostly, so the lines after hint are tried first.
func findSyscall(name string, hint int) int {
	if name[len(name)-1] == ' ' {
		return -1 // it would match the line's padding
	}
	n := len(syscalls) / lineLen
	for i := hint; i < hint+4 && i < n; i++ {
		if isLine(i, name) {
			return i
		}
	}
	lo, hi := 1, n // line 0 is the heading
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if lineLess(mid, name) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < n && isLine(lo, name) {
		return lo
	}
	return -1
}

func isLine(line int, name string) bool {
	s := syscalls[line*lineLen:]
	return len(name) <= nameLen && s[:len(name)] == name && s[len(name)] == ' '
}

// lineLess: a name that is cut short by its line's blanks is less than one
// that goes on, as a blank is less than any letter.
func lineLess(line int, name string) bool {
	return syscalls[line*lineLen:line*lineLen+nameLen] < name
}

// slot is the place of a system call among those of a, or -1.
func (a *arch) slot(line int) int {
	cell := syscalls[line*lineLen+nameLen+1+4*a.column:]
	n := 0
	if cell[0] == 'f' {
		n = privateSlot
	} else if cell[0] != ' ' {
		n = 100 * int(cell[0]-'0')
	}
	if cell[1] != ' ' {
		n += 10 * int(cell[1]-'0')
	}
	if cell[2] == ' ' {
		return -1
	}
	return n + int(cell[2]-'0')
}

// number is the system call number of a slot.
func (a *arch) number(slot int) uint32 {
	if slot >= privateSlot {
		return armPrivate + uint32(slot-privateSlot)
	}
	return a.base + uint32(slot)
}

// Calls that carry others. The value is an index into arch.carriers.
type carrier int

const (
	noCarrier  carrier = iota - 1
	socketcall         // socketcall(2)
	ipc                // ipc(2)
)

// carriers gives the slots of the carriers.
func (a *arch) carriers() [2]int {
	return [2]int{socketcall: a.slot(findSyscall("socketcall", 1)), ipc: a.slot(findSyscall("ipc", 1))}
}

// carriedBy tells whether a call can also be made through a carrier, and which
// number it has there.
func carriedBy(line int) (carrier, uint64) {
	cell := syscalls[line*lineLen+nameLen+1+4*colMux:]
	if cell[0] == ' ' {
		return noCarrier, 0
	}
	call := 10*uint64(cell[1]-'0') + uint64(cell[2]-'0')
	if cell[0] == 's' {
		return socketcall, call
	}
	return ipc, call
}
