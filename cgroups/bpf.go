package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and values of bpf(2) (linux/bpf.h).
const (
	bpfProgLoad, bpfProgAttach      = 5, 8
	bpfProgGetFD, bpfGetInfo        = 13, 15
	bpfProgQuery                    = 16
	progTypeCgroupDevice            = 15
	attachCgroupDevice              = 6
	attachAllowMulti, attachReplace = 2, 4
	maxPrograms                     = 64 // that a cgroup can have
)

// filterName tells our programs from those of others, such as systemd.
const filterName = "berth_devices"

// DeviceFilter attaches rules to the cgroup whose directory is open, or
// replaces those that it attached before, without a moment between (Linux 5.6).
// They hold for its processes beside those of the cgroups above and of other
// programs (bpf(2), Linux 4.15; it wants CAP_BPF or CAP_SYS_ADMIN and
// CAP_NET_ADMIN, which nobody has in a user namespace). The filter goes with
// the cgroup.
func DeviceFilter(dir *os.File, rules []DeviceRule) error {
	prog, err := loadFilter(deviceProgram(rules))
	if err != nil {
		return fmt.Errorf("load the device filter: %w", err)
	}
	defer unix.Close(prog)
	old, err := attachedFilter(dir)
	if err != nil {
		return fmt.Errorf("look for the device filter of %s: %w", dir.Name(), err)
	}
	flags := uint32(attachAllowMulti)
	if old > 0 {
		defer unix.Close(old)
		before, err := programInfo(old)
		now, err2 := programInfo(prog)
		if err == nil && err2 == nil && before.tag == now.tag {
			return nil // the same instructions
		}
		flags |= attachReplace
	}
	attach := struct{ target, prog, kind, flags, replace uint32 }{
		uint32(dir.Fd()), uint32(prog), attachCgroupDevice, flags, uint32(max(old, 0))}
	if _, err := bpf(bpfProgAttach, unsafe.Pointer(&attach), unsafe.Sizeof(attach)); err != nil {
		return fmt.Errorf("attach the device filter to %s: %w", dir.Name(), err)
	}
	return nil
}

func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for tries := 0; ; tries++ {
		r, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
		// A signal, such as the Go scheduler's, interrupts the verifier.
		if errno == unix.EAGAIN && tries < 20 || errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return -1, os.NewSyscallError("bpf", errno)
		}
		return int(r), nil
	}
}

func loadFilter(prog []insn) (int, error) {
	license := []byte("Apache-2.0\x00")
	var pin runtime.Pinner // the kernel gets addresses as numbers, which no stack that grows corrects
	defer pin.Unpin()
	pin.Pin(&prog[0])
	pin.Pin(&license[0])
	load := struct {
		progType, count    uint32
		insns, license     uint64
		logLevel, logSize  uint32
		logBuf             uint64
		kernVersion, flags uint32
		name               [16]byte
	}{progType: progTypeCgroupDevice, count: uint32(len(prog)),
		insns: uint64(uintptr(unsafe.Pointer(&prog[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	copy(load.name[:], filterName)
	return bpf(bpfProgLoad, unsafe.Pointer(&load), unsafe.Sizeof(load))
}

// attachedFilter opens our program on a cgroup, -1 if there is none.
func attachedFilter(dir *os.File) (int, error) {
	ids := new([maxPrograms]uint32)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(ids)
	query := struct { // whole, for Linux 6.17 to 7.1 write the revision whatever the size
		target, kind, flags, attached uint32
		ids                           uint64
		count, _                      uint32
		_, _, _                       uint64
		_                             uint64 // revision
	}{target: uint32(dir.Fd()), kind: attachCgroupDevice, ids: uint64(uintptr(unsafe.Pointer(ids))), count: maxPrograms}
	if _, err := bpf(bpfProgQuery, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return -1, err
	}
	for _, id := range ids[:min(query.count, maxPrograms)] {
		get := struct{ id, _, _ uint32 }{id: id}
		fd, err := bpf(bpfProgGetFD, unsafe.Pointer(&get), unsafe.Sizeof(get))
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) {
			continue // somebody else's, guarded by a security module, or just gone
		}
		if err != nil {
			return -1, err
		}
		if i, err := programInfo(fd); err == nil && bytes.HasPrefix(i.name[:], []byte(filterName+"\x00")) {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, nil
}

// info is the beginning of struct bpf_prog_info.
type info struct {
	kind, id uint32
	tag      [8]byte // hash of the instructions
	_        [48]byte
	name     [16]byte
}

func programInfo(fd int) (*info, error) {
	i := new(info)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(i)
	get := struct {
		fd, size uint32
		info     uint64
	}{uint32(fd), uint32(unsafe.Sizeof(*i)), uint64(uintptr(unsafe.Pointer(i)))}
	_, err := bpf(bpfGetInfo, unsafe.Pointer(&get), unsafe.Sizeof(get))
	return i, err
}
