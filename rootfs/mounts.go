package rootfs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// Facts is what must be known of the host to decide.
type Facts interface {
	// Kind tells what lies at a path of the host: 'd' a directory, 'f'
	// anything else, 0 nothing.
	Kind(path string) byte
	// Inside follows a path of the container in the root as it is before the
	// start, as far as it goes: the path without links, the permissions of what
	// is there, and whether anything is.
	Inside(path string) (resolved string, mode uint32, there bool)
	// PageSize is the most that mount(2) takes of options, with a NUL.
	PageSize() int
	// LayersOneByOne tells whether overlayfs takes a layer with each lowerdir+.
	LayersOneByOne() bool
}

// Setting is what the mounts of a container depend on beside their list.
type Setting struct {
	UserNS   bool // the container's processes are in another user namespace than the caller
	Trees    bool // the caller may take trees of the host, and they may not: it takes them
	CgroupNS bool // a cgroup namespace of the container's own
	// Cgroups is where the host's cgroup v2 is mounted: bound by containers
	// without a cgroup namespace. (A mount from the initial one costs an RCU
	// grace period of 10 ms.) A function, for most containers have one.
	Cgroups func() string
	InOrder bool   // trees are taken when it is their turn: their sources may lie in the root
	RootDir string // with InOrder: the root's path on the host
	// Peers: what is asked to be shared is a peer of the host's mount, and what the
	// container mounts there is seen outside. Else it hears of the host's mounts
	// and tells only its own copies.
	Peers   bool
	NoNodes bool // mknod(2) is refused, as in a user namespace: nodes of the host are bound
}

// Take is a tree of the host that the caller takes and hands to the container's
// process: it may, where they may not.
type Take struct {
	Path                string
	Recursive, NoFollow bool
	Top, All            step.MountAttr
	Named               uint64 // MOUNT_ATTR_* that were asked to be off
	Map                 *IDMap // ids of its files are mapped
	FD                  *step.Arg
	Slave               bool // of the host's mount, before All is set
	Target              string
}

// IDMap is how the owners of files look in the container (mount_setattr(2)
// MOUNT_ATTR_IDMAP, Linux 5.12).
type IDMap struct {
	UIDs, GIDs []specs.LinuxIDMapping // none: as the container's user namespace does
	Recursive  bool
}

// MapHere stands in Late where the caller maps the owners of a tree that the
// process has taken.
type MapHere struct {
	*Take
	Tree *step.Result
}

func (m MapHere) String() string { return "the caller maps the owners of " + m.Path }

// Calls implements Step: none is the process's.
func (MapHere) Calls() []step.Call { return nil }

// Tree is how the mounts of a spec come to be.
type Tree struct {
	First  []step.Step // trees that keep a relation to the host's, before that is cut
	Early  []step.Step // before the root is mounted, which may hide the sources
	Late   []step.Step // in the order of the spec
	After  []step.Step // when all has been created that lies in them
	Takes  []*Take     // by the caller, before the process is there
	Slaves bool        // some of them are to hear of the host's mounts
	CopyUp []string    // tmpfs that begin with the content of the root below them
	Warn   []string

	bound []string // targets of recursive bind mounts so far
}

// Mounts decides them.
func (s *Setting) Mounts(list []specs.Mount, root *step.Result, f Facts) (*Tree, error) {
	t := &Tree{}
	for i := range list {
		m := list[i]
		if !path.IsAbs(m.Destination) {
			t.Warn = append(t.Warn, fmt.Sprintf("mount destination %s is not absolute: support for relative paths will go", m.Destination))
			m.Destination = "/" + m.Destination
		}
		if within(m.Destination, s.RootDir) { // a host's path of it, as some callers write
			m.Destination = "/" + strings.TrimPrefix(path.Clean(m.Destination), path.Clean(s.RootDir))
		}
		if err := s.mount(t, &m, root, f); err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
	}
	return t, nil
}

func (s *Setting) mount(t *Tree, m *specs.Mount, root *step.Result, f Facts) error {
	o := parseOptions(m.Options)
	mapped := o.idmap || len(m.UIDMappings)+len(m.GIDMappings) > 0
	if mapped && !o.bind && m.Type != "bind" {
		return errors.New("id-mapped mounts are for bind mounts")
	}
	switch {
	case o.bind || m.Type == "bind":
		return s.bind(t, m, o, root, f)
	case m.Type == "cgroup" || m.Type == "cgroup2":
		s.cgroup(t, m, o, root)
		return nil
	case m.Type == "":
		return errors.New("no file system type is given")
	}
	s.fileSystem(t, m, o, root, f)
	return nil
}

// fileSystem mounts a new one. A read-only tmpfs becomes so at the end: what is
// mounted in it needs directories.
func (s *Setting) fileSystem(t *Tree, m *specs.Mount, o *options, root *step.Result, f Facts) {
	fs := step.MountFS{Root: root, Source: m.Source, Type: m.Type, Target: m.Destination, Flags: o.flags,
		Propagation: o.propagation, Data: o.joined(), Ordinary: m.Type == "proc" || m.Type == "sysfs"}
	if m.Type != "tmpfs" {
		t.Late = append(t.Late, fs)
		return
	}
	resolved, mode, there := f.Inside(m.Destination)
	fs.Target = resolved
	if there && s.InOrder && !strings.Contains(","+fs.Data, ",mode=") {
		fs.Data = strings.TrimPrefix(fs.Data+fmt.Sprintf(",mode=%o", mode&0o7777), ",")
	}
	if o.copyUp && there {
		t.CopyUp = append(t.CopyUp, resolved)
	}
	if o.flags&unix.MS_RDONLY != 0 {
		fs.Flags &^= unix.MS_RDONLY
		t.After = append(t.After, step.SetAttrAt{Root: root, Path: resolved, Attr: step.MountAttr{Set: unix.MOUNT_ATTR_RDONLY}})
	}
	t.Late = append(t.Late, fs)
}

// cgroup: without a cgroup namespace the host's mount is bound.
func (s *Setting) cgroup(t *Tree, m *specs.Mount, o *options, root *step.Result) {
	host := ""
	if !s.CgroupNS {
		host = s.Cgroups()
	}
	tree := &step.Result{Name: "cgroup"}
	switch {
	case host != "":
	case slices.ContainsFunc(t.bound, func(d string) bool { return within(m.Destination, d) }):
		// The host's may lie there already, all of it and writable (GHSA-m8cg-xc2p-r3fc).
		t.Late = append(t.Late, step.NewTree{Type: "cgroup2", Attrs: attrOf(o.flags), Tree: tree}, step.PlaceTree{Root: root, Tree: tree, Target: m.Destination})
		return
	default:
		t.Late = append(t.Late, step.MountFS{Root: root, Source: "cgroup2", Type: "cgroup2", Target: m.Destination, Flags: o.flags, Ordinary: true, There: true})
		return
	}
	top, _ := o.attrs()
	take := step.CloneTree{Path: host, Top: top, All: step.MountAttr{Propagation: unix.MS_PRIVATE}, Tree: tree}
	if s.InOrder {
		t.Late = append(t.Late, take)
	} else {
		t.Early = append(t.Early, take)
	}
	t.Late = append(t.Late, step.PlaceTree{Root: root, Tree: tree, Target: m.Destination})
}

func (s *Setting) bind(t *Tree, m *specs.Mount, o *options, root *step.Result, f Facts) error {
	kind := f.Kind(m.Source)
	inRoot := s.InOrder && within(m.Source, s.RootDir)
	if kind == 0 && !inRoot && !o.srcNoFollow {
		return fmt.Errorf("%s: %w", m.Source, unix.ENOENT)
	}
	top, all := o.attrs()
	target, _, _ := f.Inside(m.Destination)
	place := step.PlaceTree{Root: root, Target: target, File: kind == 'f', NoFollow: o.dstOnly}
	if o.recursive {
		t.bound = append(t.bound, m.Destination)
	}
	related := o.propagation&(unix.MS_SHARED|unix.MS_SLAVE) != 0
	t.Slaves = t.Slaves || related
	mapped := o.idmap || len(m.UIDMappings)+len(m.GIDMappings) > 0
	if mapped && !inRoot || s.Trees && !inRoot {
		take := &Take{Path: m.Source, Recursive: o.recursive, NoFollow: o.srcNoFollow, Top: top, All: all,
			Named: attrOf(o.clear), Target: m.Destination, FD: step.Later("tree of " + m.Source), Slave: related && !s.Peers}
		if mapped {
			take.Map = &IDMap{m.UIDMappings, m.GIDMappings, o.ridmap}
		}
		place.Given = take.FD
		t.Takes, t.Late = append(t.Takes, take), append(t.Late, place)
		return nil
	}
	place.Tree = &step.Result{Name: "tree_" + strings.Trim(strings.ReplaceAll(path.Clean(m.Destination), "/", "_"), "_")}
	take := step.CloneTree{Path: m.Source, Recursive: o.recursive, NoFollow: o.srcNoFollow, Top: top, All: all, Tree: place.Tree}
	if mapped { // of the root, as it is when it is its turn
		t.Late = append(t.Late, take, MapHere{&Take{Path: m.Source, Recursive: o.recursive, Target: m.Destination,
			Map: &IDMap{m.UIDMappings, m.GIDMappings, o.ridmap}}, place.Tree}, place)
		return nil
	}
	switch {
	case related && s.Peers:
		t.First = append(t.First, take)
	case s.InOrder:
		t.Late = append(t.Late, take)
	default:
		t.Early = append(t.Early, take)
	}
	t.Late = append(t.Late, place)
	return nil
}

// within tells whether a path lies below a directory.
func within(name, dir string) bool {
	return dir != "" && strings.HasPrefix(path.Clean(name)+"/", path.Clean(dir)+"/")
}
