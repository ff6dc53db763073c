package rootfs

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// defaultDevices are those that every container has (runtime-spec,
// config-linux.md, "Default Devices").
var defaultDevices = [...]struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

var defaultLinks = [...][2]string{
	{"/dev/fd", "/proc/self/fd"}, {"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"}, {"/dev/ptmx", "pts/ptmx"},
}

// Devices makes the device nodes of a container. A /dev that is not a file
// system of its own (a directory of the host, say) gets only what was asked for.
func Devices(spec *specs.Spec, root *step.Result) ([]step.Step, error) {
	var out []step.Step
	own := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev" && m.Type == "tmpfs" })
	asked := func(path string) bool {
		return slices.ContainsFunc(spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == path })
	}
	if own {
		for _, d := range defaultDevices {
			if p := "/dev/" + d.name; !asked(p) {
				out = append(out, step.Node{Root: root, Path: p, Mode: unix.S_IFCHR | 0o666, Major: d.major, Minor: d.minor})
			}
		}
		for _, l := range defaultLinks {
			if !asked(l[0]) {
				out = append(out, step.Symlink{Root: root, Path: l[0], To: l[1]})
			}
		}
	}
	for i := range spec.Linux.Devices {
		n, err := node(&spec.Linux.Devices[i], root)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func node(d *specs.LinuxDevice, root *step.Result) (step.Step, error) {
	kind := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
	if kind == 0 {
		return nil, fmt.Errorf("device %s: unknown type %q", d.Path, d.Type)
	}
	n := step.Node{Root: root, Path: d.Path, Mode: kind | 0o666, Major: uint32(d.Major), Minor: uint32(d.Minor)}
	if d.FileMode != nil {
		n.Mode = kind | uint32(d.FileMode.Perm())
	}
	if d.UID != nil {
		n.UID = *d.UID
	}
	if d.GID != nil {
		n.GID = *d.GID
	}
	return n, nil
}

// Protect hides masked paths and makes others read-only.
func Protect(masked, readonly []string, root *step.Result, f Facts) []step.Step {
	var out []step.Step
	for _, p := range masked {
		out = append(out, mask(p, root, f)...)
	}
	for _, p := range readonly {
		if kernelPath(p) && f.Kind(p) == 0 {
			continue
		}
		out = append(out, step.ReadOnlyPath{Root: root, Path: p})
	}
	return out
}

// mask: files of /proc and /sys are the same in the container as on the host,
// for other paths both kinds are tried.
func mask(p string, root *step.Result, f Facts) []step.Step {
	file, dir := step.MaskFile{Root: root, Path: p}, step.MaskDir{Root: root, Path: p}
	if !kernelPath(p) {
		return []step.Step{file, dir}
	}
	switch f.Kind(p) {
	case 'd':
		return []step.Step{dir}
	case 'f':
		return []step.Step{file}
	}
	return nil
}

func kernelPath(p string) bool {
	return strings.HasPrefix(p, "/proc/") || strings.HasPrefix(p, "/sys/")
}
