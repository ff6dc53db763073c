package container

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func modeOf(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(path, err)
	}
	return st.Mode & 0o7777
}

func TestStateRootIsRootsOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a container's layer has the image's owner")
	}
	root := t.TempDir() + "/state"
	s, err := Open(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Create(nil, Options{Image: HostImage, Args: []string{"true"}, Network: "none", Volumes: []string{"vol:/v"}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	folders := []string{root, root + "/containers", c.dir, root + "/names", root + "/volumes", root + "/volumes/vol"}
	for _, d := range folders {
		if m := modeOf(t, d); m != 0o700 {
			t.Errorf("%s has mode %o", d, m)
		}
	}
	for root, want := range map[uint32]uint32{0o711: 0o700, 0o755: 0o755} { // an earlier berth's, the administrator's
		for _, d := range folders[1:] {
			if err := os.Chmod(d, 0o711); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(folders[0], os.FileMode(root)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(folders[0], nil); err != nil {
			t.Fatal(err)
		}
		if m := modeOf(t, folders[0]); m != want {
			t.Errorf("a state root of mode %o has %o afterwards, want %o", root, m, want)
		}
		for _, d := range []string{"containers", "names", "volumes"} {
			if m := modeOf(t, folders[0]+"/"+d); m != 0o700 {
				t.Errorf("%s was not shut: %o", d, m)
			}
		}
	}
}

func TestAttachSocketIsPrivate(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	c := addContainer(t, &Store{Root: t.TempDir()}, strings.Repeat("a", 64), "x")
	h := newHub()
	if err := h.listen(c); err != nil {
		t.Fatal(err)
	}
	defer h.end(0, nil)
	if m := modeOf(t, c.dir+"/"+attachSocket); m != 0o600 {
		t.Errorf("the socket has mode %o", m)
	}
	if conn, err := c.dial(); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}
