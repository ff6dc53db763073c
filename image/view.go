package image

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

// A View is what overlayfs would show of layers, read without a mount. The
// topmost may change meanwhile: it may be a running container's own.
type View struct {
	trees trees
	xattr string
}

// OpenView opens the layers: lower in the order of an image, lowest first, and
// upper above them, which may be "" or missing.
func OpenView(lower []string, upper string) (*View, error) {
	in, err := findRights()
	if err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	v := &View{xattr: in.xattr}
	if upper != "" {
		if err := v.add(upper); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for i := len(lower) - 1; i >= 0; i-- {
		if err := v.add(lower[i]); err != nil {
			v.Close()
			return nil, err
		}
	}
	return v, nil
}

func (v *View) add(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open layer %s: %w", dir, err)
	}
	v.trees = append(v.trees, tree{fd, true}) // a record may say that it is not opaque, a container's layer has none
	return nil
}

// Close lets go of the layers.
func (v *View) Close() {
	for _, t := range v.trees {
		unix.Close(t.fd)
	}
}

// An Entry is what the view shows at a path.
type Entry struct {
	unix.Stat_t
	view *View
	path string // without links
	in   tree   // where it lies; of a directory the topmost part
}

// Walk finds a path; links are followed, the last one too. fs.ErrNotExist and
// ENOTDIR say that there is no such thing.
func (v *View) Walk(path string) (*Entry, error) {
	w := &pathWalk{look: func(p string) (unix.Stat_t, tree, error) { return v.trees.look(p, v.xattr) }, files: true}
	if err := follow(w, strings.Split(path, "/")); err != nil {
		return nil, &fs.PathError{Op: "look up in image", Path: path, Err: err}
	}
	to := strings.Join(w.dir, "/")
	if w.at == nil {
		return v.at(to)
	}
	return &Entry{w.at.st, v, to, w.at.in}, nil
}

// Look finds a name in a directory; a link is not followed.
func (e *Entry) Look(name string) (*Entry, error) {
	if e.path != "" {
		name = e.path + "/" + name
	}
	return e.view.at(name)
}

func (v *View) at(path string) (*Entry, error) {
	st, in, err := v.trees.look(path, v.xattr)
	if err != nil {
		return nil, &fs.PathError{Op: "look up in image", Path: path, Err: err}
	}
	return &Entry{st, v, path, in}, nil
}

// IsDir tells that it is a directory.
func (e *Entry) IsDir() bool { return isDir(&e.Stat_t) }

// Readlink returns the target of a link.
func (e *Entry) Readlink() (string, error) { return e.in.readlink(e.path) }

// Open opens a directory or a regular file for reading, and anything else as
// O_PATH. The path is looked up once, and Stat_t is of what was opened: where a
// container runs it may stand for a device the next time.
func (e *Entry) Open() (*os.File, error) {
	fd, err := e.in.open(e.path)
	if err == nil {
		err = unix.Fstat(fd, &e.Stat_t)
	}
	if err == nil && (isDir(&e.Stat_t) || isReg(&e.Stat_t)) {
		path := fd
		fd, err = unix.Open("/proc/self/fd/"+strconv.Itoa(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		unix.Close(path)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open in image", Path: e.path, Err: err}
	}
	return os.NewFile(uintptr(fd), e.path), nil
}

// Names lists a directory as merged, each name once. What only a whiteout
// stands for is among them: Look does not find it.
func (e *Entry) Names() ([]string, error) {
	seen := map[string]bool{}
	var names []string
	for _, t := range e.view.trees {
		list, last, err := t.names(e.path, e.view.xattr)
		if err != nil {
			return nil, &fs.PathError{Op: "list in image", Path: e.path, Err: err}
		}
		for _, n := range list {
			if !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
		if last {
			break
		}
	}
	return names, nil
}

// ReadFile returns a small regular file, at most limit bytes of it; "" if there is none.
func (v *View) ReadFile(path string, limit int64) (string, error) {
	e, err := v.Walk(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && !isReg(&e.Stat_t) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f, err := e.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	if !isReg(&e.Stat_t) {
		return "", nil
	}
	b := make([]byte, min(limit, e.Size))
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return "", fmt.Errorf("read %s of the image: %w", path, err)
	}
	return string(b[:n]), nil
}
