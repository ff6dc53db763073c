package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Two locks guard the store, both flock(2), which the kernel drops with the
// process however it ends:
//
//	images/.lock  exclusive while names and records change, shared while a
//	              container is made from an image: both for a short time
//	layers/.lock  shared while a process counts on layers that no record names
//	              yet (a load, a pull); exclusive, and only if free at once, to
//	              remove unused layers
//
// Who needs both takes layers first.

// lock waits for the lock of a folder and makes the folder if need be.
func (s *Store) lock(folder string, how int) (*os.File, error) {
	dir := s.root + "/" + folder
	f, err := openLock(dir)
	if err == nil {
		if err = flock(f, how); err == nil {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}

func openLock(dir string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW
	f, err := os.OpenFile(dir+"/.lock", flags, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err = MakeFolder(dir); err == nil {
			f, err = os.OpenFile(dir+"/.lock", flags, 0o600)
		}
	}
	return f, err
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// Hold keeps the image from being removed until release is called. Who makes a
// container holds its image from before the container's record is written
// until after, for milliseconds: names and records cannot change meanwhile.
// ErrNotFound if the image went away since Get.
func (s *Store) Hold(id string) (release func(), err error) {
	f, err := s.lock("images", unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(s.record(id)); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return func() { f.Close() }, nil
}
