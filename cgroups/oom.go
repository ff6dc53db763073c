package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// WatchOOM calls killed each time the kernel has killed processes of a cgroup,
// or of those below it, for want of memory since it was called. It returns nil
// when the cgroup has no processes any more or is gone, and the error of ctx
// when that ends first. The kernel tells of changes by inotify(7) (Linux 4.18
// for memory.events); nothing is polled.
func WatchOOM(ctx context.Context, dir string, killed func()) error {
	before, err := Events(dir)
	if err != nil {
		if absent, e := lacks(dir, "cgroup.controllers", []string{"memory"}); e == nil && len(absent) > 0 {
			return notHere(dir, "memory")
		}
		return fmt.Errorf("watch memory.events: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	for _, name := range []string{"memory.events", "cgroup.events"} {
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(dir, name), unix.IN_MODIFY); err != nil {
			return pathError("watch", filepath.Join(dir, name), err)
		}
	}
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	count := before["oom_kill"]
	for {
		// Looked at before each wait: what came meanwhile is not missed.
		if ev, err := Events(dir); err == nil && ev["oom_kill"] > count {
			count = ev["oom_kill"]
			killed()
		}
		// kernfs tells nothing of a cgroup that is removed, but it is empty before.
		if flat(flatValue(dir, "cgroup.events"))["populated"] == 0 {
			return nil
		}
		if _, err := f.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		} else if err != nil {
			return fmt.Errorf("watch memory.events: %w", err)
		}
	}
}
