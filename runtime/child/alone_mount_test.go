package child

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

func TestMountStepsAlone(t *testing.T) { testAlone(t, mountCases) }

// mounted is a case of the step that mounts below b.root.
func mounted(s func(b *bench) []step.Step) func(*bench) []step.Step {
	return func(b *bench) []step.Step {
		before := b.mounting() // b.root is known from here on
		return append(before, s(b)...)
	}
}

// shows gives the options of the mount at a path of dir, its propagation included: a line of mountinfo without numbers.
const shows = `mnt() { while read id parent dev top at rest; do [ "$at" = "$1" ] && echo "$rest"; done </proc/self/mountinfo; }; `

// overlayed makes what an overlay is of; upper directories do not lie on every file system.
func overlayed(b *bench) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil || st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		b.Skip("TMPDIR lies on an overlay, which takes no upper directory")
	}
	b.write("a:b/x", "top", "c,d/x", "hidden", "c,d/low", "low", "u,p/keep", "k", "w:k", "", "at", "")
}

func overlay(b *bench, s step.Overlay) []step.Step {
	s.Base, s.Target, s.Root = b.dir, "at", b.root
	return []step.Step{step.Propagation{Flags: allPrivate}, s, step.MakeDir{Root: b.root, Path: "/made", Mode: 0o755}}
}

const (
	seen      = `cd $1/at; cat x low keep; echo; echo new >y; rm low; ls`
	seenFiles = "toplowk\nkeep\nmade\nx\ny"
)

func changed(b *bench, dir string) {
	b.eq(fileType(b, dir+"/u,p/made"), "directory")
	b.eq(fileType(b, dir+"/u,p/y"), "file")
	if _, err := os.Lstat(dir + "/u,p/low"); err != nil {
		b.Error("the upper directory has no whiteout: ", err)
	}
	b.eq(fileType(b, dir+"/c,d/low"), "file")
}

func fileType(b *bench, path string) string {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err.Error()
	case info.IsDir():
		return "directory"
	case info.Mode().IsRegular():
		return "file"
	}
	return info.Mode().String()
}

// oneByOne: whether this kernel's overlayfs has lowerdir+ cannot be told from its version alone.
func oneByOne() string {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "fsopen overlay: " + err.Error()
	}
	defer unix.Close(fd)
	if unix.FsconfigSetString(fd, "lowerdir+", "/") != nil || unix.FsconfigSetString(fd, "no such option", "/") == nil {
		return "the overlayfs of this kernel does not take layers one by one (lowerdir+, Linux 6.8)"
	}
	return ""
}

// tower makes 200 layers, the topmost first.
func tower(b *bench) (lower []string) {
	for i := 200; i > 0; i-- {
		b.write(fmt.Sprintf("l/%d/n%d", i, i), fmt.Sprint(i))
		lower = append(lower, fmt.Sprint("l/", i))
	}
	return lower
}

var odd = step.Overlay{Lower: []string{"a:b", "c,d"}, Upper: "u,p", Work: "w:k"}

func with(s step.Overlay, change func(*step.Overlay)) step.Overlay { change(&s); return s }

var mountCases = []alone{
	{of: step.Propagation{}, clone: unix.CLONE_NEWNS, steps: one(step.Propagation{Flags: unix.MS_REC | unix.MS_SHARED}), look: func(b *bench) {
		mounts := strings.TrimSpace(b.proc("mountinfo"))
		b.eq(strings.Count(mounts, " shared:"), 1+strings.Count(mounts, "\n"))
	}},
	{of: step.Propagation{}, what: "none", clone: unix.CLONE_NEWNS, steps: func(*bench) []step.Step {
		return []step.Step{step.Propagation{Flags: unix.MS_REC | unix.MS_SHARED}, step.Propagation{Flags: allPrivate}}
	}, look: func(b *bench) { b.eq(strings.Count(b.proc("mountinfo"), " shared:"), 0) }},
	{of: step.Propagation{}, what: "of two kinds", clone: unix.CLONE_NEWNS, steps: one(step.Propagation{Flags: unix.MS_SHARED | unix.MS_PRIVATE}), call: "mount", errno: unix.EINVAL},
	{of: step.BindRoot{}, clone: unix.CLONE_NEWNS, steps: func(b *bench) []step.Step { return b.mounting() }, sh: shows + `mnt $1 | wc -l`, want: "1"},
	{of: step.BindRoot{}, what: "to none", clone: unix.CLONE_NEWNS, steps: func(b *bench) []step.Step {
		return []step.Step{step.Propagation{Flags: allPrivate}, step.BindRoot{Path: b.dir + "/none", Root: b.root}}
	}, call: "mount", errno: unix.ENOENT},

	{of: step.MakeDir{}, what: "in an overlay", clone: unix.CLONE_NEWNS, given: overlayed,
		steps: func(b *bench) []step.Step { return overlay(b, odd) }, sh: seen, want: seenFiles, after: changed},
	{of: step.MakeDir{}, what: "in an overlay of one by one", needs: oneByOne, clone: unix.CLONE_NEWNS, given: overlayed,
		steps: func(b *bench) []step.Step { return overlay(b, with(odd, func(s *step.Overlay) { s.OneByOne = true })) }, sh: seen, want: seenFiles, after: changed},
	{of: step.Overlay{}, clone: unix.CLONE_NEWNS, given: overlayed, steps: func(b *bench) []step.Step {
		return overlay(b, with(odd, func(s *step.Overlay) { s.UserXattr, s.Volatile = true, true }))[:2]
	}, sh: shows + `mnt $1/at | grep ' - overlay overlay ' | grep -o 'userxattr\|volatile' | sort`, want: "userxattr\nvolatile"},
	{of: step.Overlay{}, what: "one by one", needs: oneByOne, clone: unix.CLONE_NEWNS, given: overlayed, steps: func(b *bench) []step.Step {
		return overlay(b, with(odd, func(s *step.Overlay) { s.UserXattr, s.Volatile, s.OneByOne = true, true, true }))[:2]
	}, sh: shows + `mnt $1/at | grep ' - overlay overlay ' | grep -o 'userxattr\|volatile' | sort`, want: "userxattr\nvolatile"},
	{of: step.Overlay{}, what: "of 200", needs: oneByOne, clone: unix.CLONE_NEWNS, given: overlayed, steps: func(b *bench) []step.Step {
		return overlay(b, step.Overlay{Lower: tower(b), OneByOne: true})[:2]
	}, sh: "cd $1/at; ls | wc -l; cat n1 n200; echo; touch y 2>/dev/null || echo read-only", want: "200\n1200\nread-only"},
	{of: step.Overlay{}, what: "without one", clone: unix.CLONE_NEWNS, given: overlayed, steps: func(b *bench) []step.Step {
		return overlay(b, step.Overlay{Lower: []string{"a:b", "none"}})[:2]
	}, call: "mount", errno: unix.ENOENT},
	{of: step.Overlay{}, what: "one by one without one", needs: oneByOne, clone: unix.CLONE_NEWNS, given: overlayed, steps: func(b *bench) []step.Step {
		return overlay(b, step.Overlay{Lower: []string{"a:b", "none"}, OneByOne: true})[:2]
	}, call: "fsconfig", errno: unix.ENOENT},

	{of: step.MountFS{}, clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.MountFS{Root: b.root, Source: "src", Type: "tmpfs", Target: "/t/u", Flags: unix.MS_NOSUID, Data: "nr_inodes=77", Propagation: unix.MS_SHARED}}
	}), sh: shows + `set -- $(mnt $1/t/u); echo $1 ${2%:*} $4 $5; echo $6 | grep -o nr_inodes=77`, want: "rw,nosuid,relatime shared tmpfs src\nnr_inodes=77"},
	{of: step.MountFS{}, what: "by a link of the container's", clone: unix.CLONE_NEWNS, given: func(b *bench) { b.write("in", ""); os.Symlink("/in", b.dir+"/link") },
		steps: mounted(func(b *bench) []step.Step {
			return []step.Step{step.MountFS{Root: b.root, Source: "tmpfs", Type: "tmpfs", Target: "/link"}}
		}), sh: shows + `mnt $1/in | wc -l`, want: "1"},
	{of: step.MountFS{}, what: "that is to be ordinary", clone: unix.CLONE_NEWNS, given: func(b *bench) { b.write("in", ""); os.Symlink("/in", b.dir+"/proc") },
		steps: mounted(func(b *bench) []step.Step {
			return []step.Step{step.MountFS{Root: b.root, Source: "proc", Type: "proc", Target: "/proc", Ordinary: true}}
		}), call: "openat2", errno: unix.ELOOP},
	{of: step.MountFS{}, what: "twice", clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		m := step.MountFS{Root: b.root, Source: "sysfs", Type: "sysfs", Target: "/p"}
		return []step.Step{m, m}
	}), call: "mount", errno: unix.EBUSY},
	{of: step.MountFS{}, what: "that may be there", clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		m := step.MountFS{Root: b.root, Source: "sysfs", Type: "sysfs", Target: "/p", There: true}
		return []step.Step{m, m}
	}), sh: shows + `mnt $1/p | wc -l`, want: "1"},
	{of: step.MountFS{}, what: "that creates nothing", clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.MountFS{Root: b.root, Source: "tmpfs", Type: "tmpfs", Target: "/none", NoCreate: true}}
	}), call: "openat2", errno: unix.ENOENT},

	{of: step.CloneTree{}, given: files("src/x", "text"), steps: func(b *bench) []step.Step {
		return []step.Step{step.CloneTree{Path: b.dir + "/src", Top: step.MountAttr{Set: unix.MOUNT_ATTR_RDONLY}, Tree: &b.kept}}
	}, look: func(b *bench) {
		at := fmt.Sprintf("/proc/%d/fd/%d", b.p.Pid, b.result(&b.kept))
		text, err := os.ReadFile(at + "/x")
		b.eq(string(text), "text")
		if werr := os.WriteFile(at+"/x", nil, 0o644); err != nil || !strings.Contains(fmt.Sprint(werr), "read-only") {
			b.Errorf("%v, %v", err, werr)
		}
	}},
	{of: step.CloneTree{}, what: "with all below", clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.MountFS{Root: b.root, Source: "tmpfs", Type: "tmpfs", Target: "/m"}, step.MakeDir{Root: b.root, Path: "/m/below", Mode: 0o755},
			step.CloneTree{Path: b.dir, Recursive: true, Tree: &b.kept}}
	}), look: func(b *bench) { b.eq(b.list(fmt.Sprintf("fd/%d/m", b.result(&b.kept))), "below") }},
	{of: step.CloneTree{}, what: "of none", steps: one(step.CloneTree{Path: "/no/such", Tree: &step.Result{Name: "tree"}}), call: "open_tree", errno: unix.ENOENT},

	{of: step.NewTree{}, clone: unix.CLONE_NEWNS, steps: one(step.NewTree{Type: "sysfs", Attrs: unix.MOUNT_ATTR_RDONLY, Tree: &step.Result{Name: "tree"}}), sh: "echo goes on", want: "goes on"},
	{of: step.PlaceTree{}, what: "on the same file system", clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step { // where MountFS gets EBUSY
		return []step.Step{step.MountFS{Root: b.root, Source: "sysfs", Type: "sysfs", Target: "/p"},
			step.NewTree{Type: "sysfs", Attrs: unix.MOUNT_ATTR_RDONLY, Tree: &b.kept}, step.PlaceTree{Root: b.root, Tree: &b.kept, Target: "/p"}}
	}), sh: shows + `mnt $1/p | wc -l; mnt $1/p | grep -c ^ro,`, want: "2\n1"},
	{of: step.NewTree{}, what: "of no kind", steps: one(step.NewTree{Type: "nosuchfs", Tree: &step.Result{Name: "tree"}}), call: "fsopen", errno: unix.ENODEV},
	{of: step.PlaceTree{}, clone: unix.CLONE_NEWNS, given: files("src/x", "text"), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.CloneTree{Path: b.dir + "/src", Tree: &b.kept}, step.PlaceTree{Root: b.root, Tree: &b.kept, Target: "/a/b"}}
	}), sh: "cat $1/a/b/x", want: "text"},
	{of: step.PlaceTree{}, what: "of a file", clone: unix.CLONE_NEWNS, given: files("src/x", "text"), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.CloneTree{Path: b.dir + "/src/x", Tree: &b.kept}, step.PlaceTree{Root: b.root, Tree: &b.kept, Target: "/a/file", File: true}}
	}), sh: "cat $1/a/file", want: "text"},
	{of: step.PlaceTree{}, what: "of the parent's", clone: unix.CLONE_NEWNS, given: func(b *bench) {
		b.write("src/x", "text")
		var err error
		if b.fd, err = unix.OpenTree(unix.AT_FDCWD, b.dir+"/src", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err != nil {
			b.Fatal("open_tree: ", err)
		}
		b.Cleanup(func() { unix.Close(b.fd) })
	}, steps: mounted(func(b *bench) []step.Step {
		tree := step.Int(b.fd)
		return []step.Step{step.PlaceTree{Root: b.root, Given: &tree, Target: "/a"}}
	}), sh: "cat $1/a/x", want: "text"},
	{of: step.PlaceTree{}, what: "of a directory on a file", clone: unix.CLONE_NEWNS, given: files("src/x", "text"), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.CloneTree{Path: b.dir + "/src", Tree: &b.kept}, step.PlaceTree{Root: b.root, Tree: &b.kept, Target: "/src/x", File: true}}
	}), call: "move_mount", errno: unix.EINVAL},

	{of: step.SetAttr{}, clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.SetAttr{Mount: b.root, Attr: step.MountAttr{Set: unix.MOUNT_ATTR_RDONLY}, Why: "read-only"}}
	}), sh: "touch $1/x 2>/dev/null || echo refused", want: "refused"},
	{of: step.SetAttr{}, what: "that there is not", clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.SetAttr{Mount: b.root, Attr: step.MountAttr{Set: 1 << 40}, Why: "none"}}
	}), call: "mount_setattr", errno: unix.EINVAL},
	{of: step.SetAttrAt{}, clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.MountFS{Root: b.root, Source: "tmpfs", Type: "tmpfs", Target: "/t"},
			step.SetAttrAt{Root: b.root, Path: "/t", Attr: step.MountAttr{Set: unix.MOUNT_ATTR_RDONLY}}}
	}), sh: "touch $1/t/x 2>/dev/null || echo refused; touch $1/x && echo not here", want: "refused\nnot here"},
	{of: step.SetAttrAt{}, what: "where nothing is mounted", clone: unix.CLONE_NEWNS, given: files("d", ""), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.SetAttrAt{Root: b.root, Path: "/d", Attr: step.MountAttr{Set: unix.MOUNT_ATTR_RDONLY}}}
	}), call: "mount_setattr", errno: unix.EINVAL},
}
