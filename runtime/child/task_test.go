package child

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing is mapped beyond the end of user space, and munmap(2), which takes no
// address beyond it, takes all below.
func TestTaskSize(t *testing.T) {
	size := taskSize()
	page := uintptr(unix.Getpagesize())
	unmap := func(addr uintptr) unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_MUNMAP, addr, page, 0)
		return errno
	}
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	free := true
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		_, rest, _ := strings.Cut(line, "-")
		end, _, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(end, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if n > size && n < 1<<63 { // vsyscall is of the kernel's half
			t.Errorf("end of user space is %#x, mapped is %s", size, line)
		}
		free = free && n <= size-uint64(page)
	}
	if free {
		if errno := unmap(uintptr(size) - page); errno != 0 {
			t.Errorf("munmap of the last page: %v", errno)
		}
	}
	if errno := unmap(uintptr(size)); errno != unix.EINVAL && !wide() {
		t.Errorf("munmap beyond the end: %v", errno)
	}
}

// wide: with 57 bits of address there is more, which mmap gives only when asked.
func wide() bool {
	b, _ := os.ReadFile("/proc/cpuinfo")
	return runtime.GOARCH == "amd64" && strings.Contains(string(b), " la57")
}

func TestProbe(t *testing.T) {
	if wide() {
		t.Skip("this processor has addresses of 57 bits: the sizes of the test are for those without")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the sizes of the test are those of amd64")
	}
	const size = 1<<47 - 4096
	for _, sizes := range [][]uint64{{1 << 56, 1 << 48, size, 1 << 39}, {1 << 56, size}, {size, 1 << 39}} {
		if got := probe(sizes...); got != size {
			t.Errorf("%#x of %#x", got, sizes)
		}
	}
	// A page that is in use is found too.
	addr, _, errno := unix.RawSyscall6(unix.SYS_MMAP, 1<<45, 4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uintptr(0), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer unix.RawSyscall(unix.SYS_MUNMAP, addr, 4096, 0)
	if got := probe(1<<45+4096, 1<<39); got != 1<<45+4096 {
		t.Errorf("%#x", got)
	}
}
