package image

import (
	"fmt"

	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// private is the mode of the state root and of all folders in it. What lies in
// layers, containers and volumes has set-uid bits and device nodes of who knows
// whose making: no user of the host may get to it.
const private = 0o700

// MakeFolder makes a folder of the state root, and the root on its first use.
func MakeFolder(dir string) error { return os.MkdirAll(dir, private) }

// Shut makes sure that only root gets into an existing state root. One that
// others can enter is either of an earlier berth, which gave it 0711, or the
// administrator's own folder: then its mode is left alone and berth's folders
// in it are shut.
func Shut(root string) error {
	var st unix.Stat_t
	if unix.Stat(root, &st) != nil || st.Mode&0o077 == 0 {
		return nil
	}
	for name := range strings.FieldsSeq("containers names volumes images layers net") {
		if err := shut(root + "/" + name); err != nil {
			return err
		}
	}
	if st.Mode&0o7777 == 0o711 {
		return shut(root)
	}
	return nil
}

func shut(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil { // not there yet
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&0o7777 != private {
		err = unix.Fchmod(fd, private)
	}
	if err != nil && err != unix.EROFS {
		return fmt.Errorf("shut %s to other users: %w", dir, err)
	}
	return nil
}
