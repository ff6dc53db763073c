package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const settle = 10 * time.Second // the longest that killing and freezing may take

// Procs lists the processes of a cgroup and of those below it.
func Procs(dir string) ([]int, error) {
	var pids []int
	err := walk(dir, func(d string) error {
		b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if errors.Is(err, unix.EOPNOTSUPP) { // in a threaded cgroup there are only threads
			b, err = os.ReadFile(filepath.Join(d, "cgroup.threads"))
		}
		if err != nil {
			return err
		}
		for _, s := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(s); err == nil {
				pids = append(pids, n)
			}
		}
		return nil
	})
	return pids, err
}

// walk visits a cgroup and all below it, the deepest first.
func walk(dir string, visit func(string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(dir, e.Name()), visit); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return visit(dir)
}

// Kill ends every process of a cgroup and of those below it, also while they
// fork (cgroup.kill, Linux 5.14).
func Kill(dir string) error {
	err := write(dir, "cgroup.kill", "1")
	if errors.Is(err, fs.ErrNotExist) && exists(dir) { // the cgroup is there, the file is not
		return fmt.Errorf("kill the processes of cgroup %s: this kernel has no cgroup.kill, it needs Linux 5.14", dir)
	}
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	// A threaded cgroup holds threads, and cgroup.kill is for processes. These
	// end by any of their threads; stopped by the freezer none makes another.
	if err := write(dir, "cgroup.freeze", "1"); err != nil {
		return err
	}
	ids, err := Procs(dir)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := unix.Kill(id, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("kill", err)
		}
	}
	return write(dir, "cgroup.freeze", "0")
}

// Remove kills what is left in a cgroup and removes it with all below it. One
// that is not there is fs.ErrNotExist.
func Remove(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return pathError("remove the cgroup", dir, err)
	}
	if err := Kill(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := await(dir, "populated", "0"); err != nil {
		return err
	}
	err = walk(dir, func(d string) error {
		// Processes are off the list a moment before they are gone.
		for wait := time.Millisecond; ; wait *= 2 {
			err := unix.Rmdir(d)
			if err != unix.EBUSY || wait > time.Second {
				return pathError("remove the cgroup", d, err)
			}
			time.Sleep(wait)
		}
	})
	return err
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// Freeze stops all processes of a cgroup, or lets them go on, and returns when
// they have (cgroup.freeze, Linux 5.2).
func Freeze(dir string, on bool) error {
	v := "0"
	if on {
		v = "1"
	}
	if err := write(dir, "cgroup.freeze", v); err != nil {
		return err
	}
	return await(dir, "frozen", v)
}

// await waits until a key of cgroup.events has a value; the kernel tells of
// changes by POLLPRI.
func await(dir, key, value string) error {
	f, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 256)
	end := time.Now().Add(settle)
	for {
		n, err := f.ReadAt(buf, 0)
		if n == 0 && err != nil {
			return err
		}
		if flat(string(buf[:n]))[key] == parse(value) {
			return nil
		}
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("cgroup %s: %s is not %s after %v", dir, key, value, settle)
		}
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(p, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll cgroup.events", err)
		}
	}
}

func parse(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// flat reads a flat keyed file: lines of "key number".
func flat(s string) map[string]uint64 {
	m := map[string]uint64{}
	for _, line := range strings.Split(s, "\n") {
		if k, v, ok := strings.Cut(line, " "); ok {
			m[k] = parse(v)
		}
	}
	return m
}

// Events is memory.events: how often each thing happened, by its name there;
// oom_kill counts processes that were killed for want of memory.
func Events(dir string) (map[string]uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, "memory.events"))
	return flat(string(b)), err
}

// Frozen tells whether a cgroup was frozen, or is on the way there. One that is
// gone is not.
func Frozen(dir string) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.freeze"))
	if err != nil && !gone(err) {
		return false, err
	}
	return strings.TrimSpace(string(b)) == "1", nil
}
