package netns

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockNetns locks the network namespace this thread is in, for berth: shared
// by everyone who plugs a container into the bridge, exclusive (unix.LOCK_EX)
// for making and removing the bridge. The lock is flock(2) on the namespace's
// own file, so its scope is exactly the namespace, whatever state root a berth
// uses and even if /run is not the same. Closing the file, or dying, unlocks.
func lockNetns(how int) (*os.File, error) {
	// thread-self: a library user may hold one thread in another namespace.
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("lock the network namespace: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the network namespace: %w", err)
	}
	return f, nil
}
