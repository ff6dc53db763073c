package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/mountinfo"
	"github.com/berth-run/berth/runtime/criu"
)

// mountTable are the mounts of a process.
type mountTable []mountinfo.Mount

func (t mountTable) has(id int) bool {
	return slices.ContainsFunc(t, func(m mountinfo.Mount) bool { return m.ID == id })
}

// mounts of the container, as its first process sees them.
func (c *Container) mounts() (mountTable, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", c.state.Pid))
	if err != nil {
		return nil, fmt.Errorf("mounts of the container: %w", err)
	}
	return slices.Collect(mountinfo.All(string(b))), nil
}

func isBind(m *specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || isRecursive(m)
}

func isRecursive(m *specs.Mount) bool { return slices.Contains(m.Options, "rbind") }

// isMapped: criu would restore the mount with the owners of the files unmapped.
func isMapped(m *specs.Mount) bool {
	return len(m.UIDMappings)+len(m.GIDMappings) > 0 || slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
}

// externalMounts are the mounts of the container that come from the host.
func (c *Container) externalMounts(s *specs.Spec) ([]criu.External, error) {
	all, err := c.mounts()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", c.state.Pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("the container's root: %w", err)
	}
	defer root.Close()
	return external(s, all, func(name string) (string, bool, error) { return follow(root, name) })
}

// null is where masked files come from, whatever the container calls it.
const null = "/dev/null"

// external decides which mounts are the host's: those which were bound, what lies
// below a tree that was, files that hide others, nodes of devices where none could
// be made. follow finds where in the container a path leads to, and
// whether to a directory.
func external(s *specs.Spec, all mountTable, follow func(string) (string, bool, error)) ([]criu.External, error) {
	e := &externals{all: all, follow: follow, seen: map[string]bool{}}
	var trees []string
	for i := range s.Mounts {
		m := &s.Mounts[i]
		switch {
		case !isBind(m):
			continue
		case isMapped(m):
			return nil, fmt.Errorf("the owners of files in the mount on %s are mapped, which criu cannot restore", m.Destination)
		}
		at, err := e.add(m.Destination, "")
		if err != nil {
			return nil, err
		}
		if at != "" && isRecursive(m) {
			trees = append(trees, at)
		}
	}
	for _, name := range s.Linux.MaskedPaths {
		if _, err := e.add(name, null); err != nil {
			return nil, err
		}
	}
	for _, name := range deviceNodes(s) {
		if _, err := e.add(name, ""); err != nil {
			return nil, err
		}
	}
	for _, m := range all {
		if slices.ContainsFunc(trees, func(t string) bool { return strings.HasPrefix(m.Point, t+"/") }) && !e.asked(s, m.Point) {
			e.put(m.Point, m.Point)
		}
	}
	return e.out, nil
}

type externals struct {
	all    mountTable
	follow func(string) (string, bool, error)
	out    []criu.External
	seen   map[string]bool
}

// add takes a path of the configuration, if something is mounted there; of those
// that hide others files only, for directories are hidden behind a tmpfs of the
// container's own.
func (e *externals) add(name, value string) (at string, err error) {
	at, dir, err := e.follow(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find %s in the container: %w", name, err)
	}
	mounted := slices.ContainsFunc(e.all, func(m mountinfo.Mount) bool { return m.Point == at })
	if !mounted || at == "/" || value == null && dir {
		return "", nil
	}
	if value == "" {
		value = at
	}
	e.put(at, value)
	return at, nil
}

func (e *externals) put(at, value string) {
	if !e.seen[at] {
		e.seen[at] = true
		e.out = append(e.out, criu.External{Key: at, Value: value})
	}
}

// asked tells that the configuration has a mount of its own there.
func (e *externals) asked(s *specs.Spec, at string) bool {
	return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == at })
}

// deviceNodes are the nodes that every container has, and its own.
func deviceNodes(s *specs.Spec) []string {
	out := []string{null, "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
	for _, d := range s.Linux.Devices {
		out = append(out, d.Path)
	}
	return out
}

// follow resolves a path of a container as the container would.
func follow(root *os.File, name string) (at string, dir bool, err error) {
	f, err := openIn(root, name)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", false, err
	}
	at, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return at, fi.IsDir(), err
}

// openIn opens a place below root, whatever it is and wherever links lead to, but
// never outside (openat2(2), Linux 5.6).
func openIn(root *os.File, name string) (*os.File, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		name = "."
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if err == unix.EAGAIN { // something was renamed meanwhile
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "openat2", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}
