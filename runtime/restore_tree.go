package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/mountinfo"
	"github.com/berth-run/berth/runtime/criu"
)

// tree is the root of a container that criu restores. Criu wants it to be a mount,
// and all mount points in it to exist. That is done in a mount namespace of
// criu's own: nothing of it is seen on the host, or left when all is killed.
type tree struct {
	spec *specs.Spec
	at   string   // where the root is mounted
	root *os.File // that
	ext  []criu.External
}

// mountPoint makes the directory for the root, whose path has no links in it.
func (t *tree) mountPoint(dir string) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	t.at = filepath.Join(dir, "criu-root")
	return t.at, os.Mkdir(t.at, 0o755)
}

// start starts criu in its mount namespace.
func (t *tree) start(begin func() error) ([]criu.External, error) {
	err := onOwnThread(func() error { return t.startHere(begin) })
	return t.ext, err
}

// onOwnThread calls f on a thread that ends with it, so that no other goroutine is
// ever in a namespace that f has made. It is not the first thread, which does not end,
// and which /proc/self stands for.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f()
			return
		}
		err := onOwnThread(f) // on another: this one is taken
		goruntime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

func (t *tree) startHere(begin func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace for criu: %w", os.NewSyscallError("unshare", err))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a mount namespace for criu: %w", os.NewSyscallError("mount", err))
	}
	if err := unix.Mount(t.spec.Root.Path, t.at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", t.spec.Root.Path, t.at, err)
	}
	var err error
	if t.root, err = os.OpenFile(t.at, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	defer t.root.Close()
	if err := t.fill(); err != nil {
		return err
	}
	return begin()
}

// fill makes the mount points, and mounts what is bound from the host, for others
// may lie in it. What lies in a file system of the container's own criu makes with that.
func (t *tree) fill() error {
	t.put(null, null)
	for _, name := range deviceNodes(t.spec) {
		t.put(path.Clean(name), path.Clean(name))
	}
	for i := range t.spec.Mounts {
		m := &t.spec.Mounts[i]
		bind := isBind(m)
		if bind && isMapped(m) {
			return fmt.Errorf("the owners of files in the mount on %s are mapped, which criu cannot restore", m.Destination)
		}
		dest := t.inside(m.Destination)
		switch {
		case within(dest, t.spec.Mounts[:i], t.inside):
			if bind {
				t.put(dest, m.Source)
			}
		case !bind:
			f, err := t.place(dest, true)
			if err != nil {
				return fmt.Errorf("create criu restore mountpoint for %s mount: %w", m.Destination, err)
			}
			f.Close()
		default:
			if err := t.bind(m, dest); err != nil {
				return fmt.Errorf("create criu restore mountpoint for %s mount: %w", m.Destination, err)
			}
		}
	}
	return nil
}

// inside is a destination as the container calls it: some callers write the
// host's path of it.
func (t *tree) inside(dest string) string {
	dest = path.Clean("/" + dest)
	if in, ok := strings.CutPrefix(dest, t.spec.Root.Path+"/"); ok {
		return "/" + in
	}
	return dest
}

// within tells whether a place lies in a file system that criu restores with what
// is in it, or that the kernel fills.
func within(dest string, mounts []specs.Mount, inside func(string) string) bool {
	below, in := -1, false
	for i := range mounts { // the nearest above it decides, the last one of several
		at := strings.TrimSuffix(inside(mounts[i].Destination), "/")
		if strings.HasPrefix(dest, at+"/") && len(at) >= below {
			below, in = len(at), !isBind(&mounts[i])
		}
	}
	return in
}

func (t *tree) put(key, source string) {
	t.ext = append(t.ext, criu.External{Key: key, Value: source})
}

// bind mounts a tree of the host, and tells criu where it comes from: by the name
// it has in the images, which is where links in the root lead to.
func (t *tree) bind(m *specs.Mount, dest string) error {
	fi, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	f, err := t.place(dest, fi.IsDir())
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd()))
	if err != nil {
		return err
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if isRecursive(m) {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: m.Source, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", int(f.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: at, Err: err}
	}
	key := strings.TrimPrefix(at, t.at)
	t.put(key, m.Source)
	if isRecursive(m) {
		return t.below(key, m.Source)
	}
	return nil
}

// below names the mounts in a tree.
func (t *tree) below(key, source string) error {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	for m := range mountinfo.All(string(b)) {
		if in, ok := strings.CutPrefix(m.Point, t.at+key+"/"); ok {
			t.put(path.Join(key, in), path.Join(source, in))
		}
	}
	return nil
}

// place opens a place in the root, which is made if it is not there.
func (t *tree) place(name string, dir bool) (*os.File, error) {
	f, err := openIn(t.root, name)
	if !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	parent, err := t.place(path.Dir(name), true)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if dir {
		err = unix.Mkdirat(int(parent.Fd()), path.Base(name), 0o755)
	} else {
		err = unix.Mknodat(int(parent.Fd()), path.Base(name), unix.S_IFREG|0o644, 0)
	}
	if err != nil && err != unix.EEXIST { // a link that leads nowhere: what it leads to cannot be made
		return nil, &os.PathError{Op: "make", Path: name, Err: err}
	}
	return openIn(t.root, name)
}
