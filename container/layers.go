package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A merged is one directory of an image as overlayfs would show it, read
// without a mount: the directories of that name in the layers, topmost first,
// cut off below an opaque one. Nothing is followed by the kernel: each name is
// opened with O_NOFOLLOW from its parent's descriptor, and links are resolved
// here, so that an image cannot lead the reader out of its layers.
// overlayfs: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
type merged struct{ dirs []*os.File }

var errNotFound = fs.ErrNotExist

// openLayers opens the root; lower is in the record's order, lowest first.
// upper may be "" or missing.
func openLayers(lower []string, upper string) (*merged, error) {
	m := &merged{}
	if upper != "" {
		if err := m.add(unix.AT_FDCWD, upper); err != nil && !errors.Is(err, errNotFound) {
			return nil, fmt.Errorf("open layer %s: %w", upper, err)
		}
	}
	for i := len(lower) - 1; i >= 0; i-- {
		if err := m.add(unix.AT_FDCWD, lower[i]); err != nil {
			m.Close()
			return nil, fmt.Errorf("open layer %s: %w", lower[i], err)
		}
	}
	return m, nil
}

func (m *merged) add(dirfd int, name string) error {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m.dirs = append(m.dirs, os.NewFile(uintptr(fd), name))
	return nil
}

// Close closes all layers' descriptors.
func (m *merged) Close() {
	for _, d := range m.dirs {
		d.Close()
	}
}

// An entry is what a name in a merged directory stands for: st and from (the
// layer directory it lies in) of the topmost one, and sub when it is a directory.
type entry struct {
	st   unix.Stat_t
	from *os.File
	sub  *merged
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// opaque tells that the directory hides those of the layers below.
func opaque(d *os.File) bool {
	var b [1]byte
	for _, name := range [...]string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Fgetxattr(int(d.Fd()), name, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}

// look finds name (one component) in the directory.
func (m *merged) look(name string) (*entry, error) {
	var e *entry
	for _, d := range m.dirs {
		var st unix.Stat_t
		err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if isWhiteout(&st) {
			break
		}
		if e == nil {
			e = &entry{st: st, from: d}
			if !isDir(&st) {
				return e, nil
			}
			e.sub = &merged{}
		} else if !isDir(&st) {
			break // a file below a directory is hidden
		}
		if err := e.sub.add(int(d.Fd()), name); err != nil {
			e.sub.Close()
			return nil, err
		}
		if opaque(e.sub.dirs[len(e.sub.dirs)-1]) {
			break
		}
	}
	if e == nil {
		return nil, errNotFound
	}
	return e, nil
}

// walk resolves path from the root m, following links inside it. The caller
// closes the entry's sub.
func (m *merged) walk(path string) (*entry, error) {
	todo := strings.Split(path, "/")
	stack := []*merged{m} // stack[0] is not ours to close
	pop := func(to int) {
		for len(stack) > to {
			stack[len(stack)-1].Close()
			stack = stack[:len(stack)-1]
		}
	}
	defer pop(1)
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			pop(max(1, len(stack)-1))
			continue
		}
		e, err := stack[len(stack)-1].look(name)
		if err != nil {
			return nil, &fs.PathError{Op: "look up in image", Path: path, Err: err}
		}
		switch {
		case e.st.Mode&unix.S_IFMT == unix.S_IFLNK:
			if links++; links > 40 {
				return nil, &fs.PathError{Op: "look up in image", Path: path, Err: unix.ELOOP}
			}
			to, err := readlinkat(e.from, name)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(to, "/") {
				pop(1)
			}
			todo = append(strings.Split(to, "/"), todo...)
		case e.sub != nil:
			stack = append(stack, e.sub)
		case len(rest(todo)) > 0:
			return nil, &fs.PathError{Op: "look up in image", Path: path, Err: unix.ENOTDIR}
		default:
			if e.from, err = openIn(e.from, name); err == nil {
				err = unix.Fstat(int(e.from.Fd()), &e.st)
			}
			return e, err
		}
	}
	top := stack[len(stack)-1]
	e := &entry{sub: &merged{}}
	for _, d := range top.dirs { // descriptors of its own, so that closing the stack is simple
		fd, err := unix.FcntlInt(d.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			e.sub.Close()
			return nil, err
		}
		e.sub.dirs = append(e.sub.dirs, os.NewFile(uintptr(fd), d.Name()))
	}
	if len(e.sub.dirs) == 0 {
		return nil, &fs.PathError{Op: "look up in image", Path: path, Err: errNotFound}
	}
	return e, unix.Fstat(int(e.sub.dirs[0].Fd()), &e.st)
}

func rest(todo []string) []string {
	for len(todo) > 0 && (todo[0] == "" || todo[0] == ".") {
		todo = todo[1:]
	}
	return todo
}

// openIn opens a file that is no directory; for anything but a regular file it
// is an O_PATH descriptor. The name is looked up once: in the layer of a running
// container it may stand for a device the next time.
func openIn(d *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(d.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return os.NewFile(uintptr(fd), name), err
	}
	defer unix.Close(fd)
	file, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(file), name), nil
}

func readlinkat(d *os.File, name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(d.Fd()), name, b)
	return string(b[:max(n, 0)]), err
}

// readFile returns a small file of the image, at most limit bytes; "" if it is not there.
func (m *merged) readFile(path string, limit int64) (string, error) {
	e, err := m.walk(path)
	if errors.Is(err, errNotFound) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if e.sub != nil {
		e.sub.Close()
		return "", nil
	}
	defer e.from.Close()
	if e.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", nil
	}
	b := make([]byte, min(limit, e.st.Size))
	n, err := io.ReadFull(e.from, b)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return "", fmt.Errorf("read %s of the image: %w", path, err)
	}
	return string(b[:n]), nil
}

// names lists the directory as merged: no whiteouts, each name once.
func (m *merged) names() ([]string, error) {
	seen := map[string]bool{}
	var names []string
	for _, d := range m.dirs {
		fd, err := unix.Openat(int(d.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(fd), d.Name())
		list, err := f.Readdirnames(-1)
		f.Close()
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			if !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	return names, nil
}
