package child

import (
	"golang.org/x/sys/unix"
)

// probe finds the end of user space among what it may be, the largest first:
// the kernel maps the last page before it, or says that something is there, and
// answers ENOMEM for one beyond (mmap(2) MAP_FIXED_NOREPLACE, Linux 4.17). The
// last of sizes needs no proof.
func probe(sizes ...uint64) uint64 {
	page := uintptr(unix.Getpagesize())
	last := len(sizes) - 1
	for _, s := range sizes[:last] {
		addr, _, errno := unix.RawSyscall6(unix.SYS_MMAP, uintptr(s)-page, page, unix.PROT_NONE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uintptr(0), 0)
		if errno == 0 {
			unix.RawSyscall(unix.SYS_MUNMAP, addr, page, 0)
		}
		if errno == unix.EEXIST || errno == 0 && addr == uintptr(s)-page {
			return s
		}
	}
	return sizes[last]
}
