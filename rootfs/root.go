// Package rootfs knows what a container finds below its /: the root itself,
// the mounts of the OCI spec, devices, hidden and read-only paths. It decides;
// what it gives are steps for the plan.
package rootfs

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/berth-run/berth/runtime/step"
)

// Root is where the root file system comes from.
type Root interface {
	// Step mounts it and opens it as root.
	Step(root *step.Result, f Facts) (step.Step, error)
	// Dir is its path on the host, in which mounts may have their sources; "" if
	// it is not there before the start.
	Dir() string
}

// Overlay is an image's layers under a directory of the container's own. The
// mount exists only in the container's mount namespace: when its last process
// ends, nothing is left to unmount.
type Overlay struct {
	Base        string   // absolute; the other paths are relative to it
	Lower       []string // lowest first
	Upper, Work string   // siblings; their parent is the mount point
	UserXattr   bool     // where the mounter may not set trusted.* attributes (Linux 5.11)

	// Volatile leaves out all syncs: without it the end of the last mount writes
	// out every dirty page of the file system that Upper lies on, whoever wrote
	// it (Documentation/filesystems/overlayfs.rst, Linux 5.10).
	Volatile bool
}

// ErrManyLayers: this kernel has no way to mount so many.
var ErrManyLayers = errors.New("their names do not fit in one page, which is what mount(2) takes, and this kernel's overlayfs does not take them one by one (lowerdir+, Linux 6.8)")

// Step implements Root.
func (o Overlay) Step(root *step.Result, f Facts) (step.Step, error) {
	lower := slices.Clone(o.Lower)
	slices.Reverse(lower)
	s := step.Overlay{Base: o.Base, Lower: lower, Upper: o.Upper, Work: o.Work,
		UserXattr: o.UserXattr, Volatile: o.Volatile, Target: path.Dir(o.Upper), Root: root}
	if !s.Fits(f.PageSize()) {
		if s.OneByOne = f.LayersOneByOne(); !s.OneByOne {
			return nil, fmt.Errorf("the root: %d layers: %w", len(lower), ErrManyLayers)
		}
	}
	return s, nil
}

// Dir implements Root.
func (Overlay) Dir() string { return "" }

// Bundle is a directory that is the root as it is, as an OCI bundle has it.
type Bundle struct{ Path string }

// Step implements Root.
func (b Bundle) Step(root *step.Result, _ Facts) (step.Step, error) {
	return step.BindRoot{Path: b.Path, Root: root}, nil
}

// Dir implements Root.
func (b Bundle) Dir() string { return b.Path }
