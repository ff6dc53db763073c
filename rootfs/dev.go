package rootfs

import (
	"fmt"
	"path"
	"slices"

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

// Devices makes the device nodes of a container. A /dev that is bound from the
// host gets only what was asked for.
func (s *Setting) Devices(spec *specs.Spec, root *step.Result) ([]step.Step, error) {
	var out []step.Step
	bound := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return path.Clean(m.Destination) == "/dev" && parseOptions(m.Options).bind || path.Clean(m.Destination) == "/dev" && m.Type == "bind"
	})
	asked := func(path string) bool {
		return slices.ContainsFunc(spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == path })
	}
	if !bound {
		dev := &step.Result{Name: "dev"}
		out = append(out, step.OpenDir{Root: root, Path: "/dev", Dir: dev})
		for _, d := range defaultDevices {
			if p := "/dev/" + d.name; !asked(p) {
				out = append(out, s.node(step.Node{Root: root, Path: p, Mode: unix.S_IFCHR | 0o666, Major: d.major, Minor: d.minor, In: dev})...)
			}
		}
		for _, l := range defaultLinks {
			out = append(out, step.Symlink{Root: root, Path: l[0], To: l[1], In: dev})
		}
	}
	for i := range spec.Linux.Devices {
		n, err := node(&spec.Linux.Devices[i], root)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(defaultLinks[:], func(l [2]string) bool { return l[0] == n.Path }) && !bound {
			continue // /dev/ptmx is that of the container's own devpts
		}
		out = append(out, s.node(n)...)
	}
	return out, nil
}

// node makes a device node, or binds the host's.
func (s *Setting) node(n step.Node) []step.Step {
	if !s.NoNodes || n.Mode&unix.S_IFMT == unix.S_IFIFO {
		n.OrBind = s.InOrder && n.UID == 0 && n.GID == 0 && n.Mode&unix.S_IFMT != unix.S_IFIFO
		return []step.Step{n}
	}
	tree := &step.Result{Name: "node"}
	return []step.Step{
		step.CloneTree{Path: n.Path, Tree: tree, All: step.MountAttr{Propagation: unix.MS_PRIVATE}},
		step.PlaceTree{Root: n.Root, Tree: tree, Target: n.Path, File: true},
	}
}

func node(d *specs.LinuxDevice, root *step.Result) (step.Node, error) {
	kind := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
	if kind == 0 {
		return step.Node{}, fmt.Errorf("device %s: unknown type %q", d.Path, d.Type)
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
