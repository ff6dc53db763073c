package rootfs

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/runtime/step"
)

// Protect hides masked paths and makes others read-only. What /proc and /sys
// hold is the same in the container as on the host, so there a path that the
// host has must be found: an image cannot make it missing.
func Protect(spec *specs.Spec, root *step.Result, f Facts) []step.Step {
	p := protector{spec.Mounts, root, f}
	var files, dirs, out []step.Step
	empty := &step.Result{Name: "empty"}
	for _, name := range unique(spec.Linux.MaskedPaths) {
		in, kind := p.find(name)
		if kind != 'd' {
			files = append(files, step.MaskFile{Inside: in})
		}
		if kind != 'f' {
			dirs = append(dirs, step.MaskDir{Inside: in, Empty: empty})
		}
	}
	out = files
	if len(dirs) > 0 {
		out = append(append(out, step.EmptyDir{At: emptyAt(f), Dir: empty}), dirs...)
	}
	for _, name := range unique(spec.Linux.ReadonlyPaths) {
		in, _ := p.find(name)
		out = append(out, step.ReadOnlyPath{Inside: in})
	}
	return out
}

func unique(list []string) []string {
	list = slices.Clone(list)
	for i := range list {
		list[i] = path.Clean("/" + list[i])
	}
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// emptyAt is a directory of the host that nothing of the plan needs any more.
func emptyAt(f Facts) string {
	for _, p := range [...]string{"/sys", "/dev/shm", "/tmp"} {
		if f.Kind(p) == 'd' {
			return p
		}
	}
	return "/proc"
}

type protector struct {
	mounts []specs.Mount
	root   *step.Result
	facts  Facts
}

// find tells how a path is found, and what is there: 'd', 'f', or 0 for not known.
func (p protector) find(name string) (step.Inside, byte) {
	in := step.Inside{Root: p.root, Path: name}
	for _, m := range p.mounts { // the last one above the path decides
		if within(name, m.Destination) {
			in.Kernel = m.Type == "proc" && path.Clean(m.Destination) == "/proc" && !slices.ContainsFunc(m.Options, subset) ||
				m.Type == "sysfs" && path.Clean(m.Destination) == "/sys"
		}
	}
	if !in.Kernel {
		return in, 0
	}
	kind := p.facts.Kind(name)
	in.Must = kind != 0
	return in, kind
}

// subset is the option of proc that shows processes only (proc(5), Linux 5.8).
func subset(option string) bool { return strings.HasPrefix(option, "subset=") }
