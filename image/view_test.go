package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// layerOf makes a layer's directory from pairs of name and content: a name that
// ends in / is a directory, content "->x" a link, "wh" a whiteout, "opq" an
// opaque directory.
func layerOf(t *testing.T, files ...string) string {
	t.Helper()
	in, err := findRights()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		p := filepath.Join(dir, files[i])
		os.MkdirAll(filepath.Dir(p), 0o755)
		var err error
		to, link := strings.CutPrefix(files[i+1], "->")
		switch {
		case link:
			err = os.Symlink(to, p)
		case files[i+1] == "wh":
			err = unix.Mknod(p, unix.S_IFCHR, 0)
		case files[i+1] == "opq":
			err = errors.Join(os.MkdirAll(p, 0o755), unix.Setxattr(p, in.xattr+"opaque", []byte("y"), 0))
		default:
			err = os.WriteFile(p, []byte(files[i+1]), 0o640)
		}
		if errors.Is(err, unix.ENOTSUP) {
			t.Skip("this file system has no extended attributes for overlayfs")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestView(t *testing.T) {
	secret := layerOf(t, "secret", "host")
	low := layerOf(t, "etc/passwd", "low", "etc/group", "g", "usr/etc/x", "deep", "abs", "->/usr/etc", "up", "->../../../../"+secret+"/secret",
		"loop", "->loop", "chain", "->abs/x", "d/f", "below", "gone/f", "x", "opaque/old", "x", "opaque/sub/deep", "x", "swapped/f", "x", "list/a", "", "list/b", "")
	high := layerOf(t, "etc/passwd", "high", "link/hop", "->../etc/group", "d", "a file now", "gone", "wh", "opaque", "opq", "opaque/new", "n",
		"swapped", "->etc", "list/b", "wh", "list/c", "")
	v, err := OpenView([]string{low, high}, filepath.Join(low, "no-upper"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for path, want := range map[string]string{
		"etc/passwd": "high", "/etc/group": "g", "abs/x": "deep", "chain": "deep", "link/hop": "g", "etc/../etc/./passwd": "high",
		"../../etc/passwd": "high", "d": "a file now", "d/.": "a file now", "d/f": "", "d/../etc/group": "", "up": "", "nope": "", "etc": "", "gone/f": "",
		"opaque/old": "", "opaque/new": "n", "opaque/sub/deep": "", "swapped/f": "", "swapped/group": "g", "list/b": "",
	} {
		got, err := v.ReadFile(path, 100)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := v.ReadFile("loop", 100); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
	if got, _ := v.ReadFile("etc/passwd", 2); got != "hi" {
		t.Errorf("limit: %q", got)
	}
	for path, want := range map[string]string{"list": "a c", "opaque": "new", "/": "abs chain d etc link list loop opaque swapped up usr", "swapped": "group passwd"} {
		dir, err := v.Walk(path)
		if err != nil {
			t.Fatal(err)
		}
		names, err := dir.Names()
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(n string) bool {
			_, err := dir.Look(n)
			return errors.Is(err, fs.ErrNotExist)
		})
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s lists %q, want %q", path, got, want)
		}
	}
}

// A name that is a regular file when it is looked at and a fifo, or a device,
// when it is opened: the second must never be opened for reading.
func TestOpenWhatChanges(t *testing.T) {
	dir := layerOf(t, "a", "content")
	if err := unix.Mkfifo(dir+"/b", 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := OpenView(nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	kinds := map[bool]int{}
	for range 20000 {
		e, err := v.Walk("a")
		if err != nil {
			t.Fatal(err)
		}
		f, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		if isReg(&e.Stat_t) == (flags&unix.O_PATH != 0) {
			t.Fatalf("mode %o was opened with flags %#x", e.Mode, flags)
		}
		kinds[isReg(&e.Stat_t)]++
		f.Close()
	}
	if len(kinds) != 2 {
		t.Errorf("only one kind was seen: %v", kinds)
	}
}
