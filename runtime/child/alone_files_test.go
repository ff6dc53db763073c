package child

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

func TestFileStepsAlone(t *testing.T) { testAlone(t, fileCases) }

// inRoot is a case of a step that takes the root by descriptor and mounts nothing.
func inRoot(s func(root *step.Result) step.Step) func(*bench) []step.Step {
	return func(b *bench) []step.Step { return b.opening(s(b.root)) }
}

// linked makes a link of the container's to a place that is the host's for who follows it as a string.
func linked(b *bench) {
	b.write("etc", "")
	if err := os.Symlink("/etc", b.dir+"/link"); err != nil {
		b.Fatal(err)
	}
}

var fileCases = []alone{
	{of: step.MakeDir{}, steps: inRoot(func(root *step.Result) step.Step { return step.MakeDir{Root: root, Path: "/a/../b/c", Mode: 0o751} }),
		sh: "cd $1; find . | sort; busybox stat -c %a b b/c", want: ".\n./b\n./b/c\n751\n751"},
	{of: step.MakeDir{}, what: "by a link", given: linked,
		steps: inRoot(func(root *step.Result) step.Step {
			return step.MakeDir{Root: root, Path: "/link/berth-alone", Mode: 0o755}
		}),
		sh: "[ -d $1/etc/berth-alone ] && [ ! -e /etc/berth-alone ] && echo inside", want: "inside"},
	{of: step.MakeDir{}, what: "in a file", given: files("f", "x"),
		steps: inRoot(func(root *step.Result) step.Step { return step.MakeDir{Root: root, Path: "/f/d", Mode: 0o755} }), call: "openat2", errno: unix.ENOTDIR},
	{of: step.OpenDir{}, steps: func(b *bench) []step.Step { return b.opening(step.OpenDir{Root: b.root, Path: "/a/b", Dir: &b.kept}) },
		look: func(b *bench) { b.eq(b.proc(fmt.Sprint("fd/", b.result(&b.kept))), b.dir+"/a/b") }},
	{of: step.OpenDir{}, what: "by a link", given: linked, steps: func(b *bench) []step.Step {
		return b.opening(step.OpenDir{Root: b.root, Path: "/link/../link", Dir: &b.kept})
	}, look: func(b *bench) { b.eq(b.proc(fmt.Sprint("fd/", b.result(&b.kept))), b.dir+"/etc") }},
	{of: step.OpenDir{}, what: "that is a file", given: files("f", "x"), steps: func(b *bench) []step.Step {
		return b.opening(step.OpenDir{Root: b.root, Path: "/f", Dir: &b.kept})
	}, call: "openat2", errno: unix.ENOTDIR},
	{of: step.Symlink{}, steps: inRoot(func(root *step.Result) step.Step { return step.Symlink{Root: root, Path: "/l", To: "/proc/self/fd"} }),
		sh: "readlink $1/l", want: "/proc/self/fd"},
	{of: step.Symlink{}, what: "that is there", given: linked,
		steps: inRoot(func(root *step.Result) step.Step { return step.Symlink{Root: root, Path: "/link", To: "/other"} }), sh: "readlink $1/link", want: "/etc"},
	{of: step.Symlink{}, what: "in a directory that was opened", steps: func(b *bench) []step.Step {
		return b.opening(step.OpenDir{Root: b.root, Path: "/d", Dir: &b.kept}, step.Symlink{Root: b.root, Path: "/d/l", To: "x", In: &b.kept})
	}, sh: "readlink $1/d/l", want: "x"},
	{of: step.Symlink{}, what: "in none", steps: inRoot(func(root *step.Result) step.Step { return step.Symlink{Root: root, Path: "/none/l", To: "x"} }),
		call: "openat2", errno: unix.ENOENT},
	{of: step.Node{}, steps: inRoot(func(root *step.Result) step.Step {
		return step.Node{Root: root, Path: "/dev/zero", Mode: unix.S_IFCHR | 0o640, Major: 1, Minor: 5, UID: 7, GID: 8}
	}), sh: "busybox stat -c '%F %t %T %a %u %g' $1/dev/zero", want: "character special file 1 5 640 7 8"},
	{of: step.Node{}, what: "for FIFO", steps: inRoot(func(root *step.Result) step.Step {
		return step.Node{Root: root, Path: "/f", Mode: unix.S_IFIFO | 0o600}
	}),
		sh: "busybox stat -c '%F %a' $1/f", want: "fifo 600"},
	{of: step.Node{}, what: "without the right", steps: func(b *bench) []step.Step {
		return b.opening(step.Capabilities{}, step.Node{Root: b.root, Path: "/dev/null", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3})
	}, call: "mknodat", errno: unix.EPERM},
	{of: step.Node{}, what: "without the right, or bound", clone: unix.CLONE_NEWNS, steps: mounted(func(b *bench) []step.Step {
		const capSysAdmin = 1 << 21
		return []step.Step{step.Capabilities{Effective: capSysAdmin, Permitted: capSysAdmin},
			step.Node{Root: b.root, Path: "/dev/null", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3, OrBind: true}}
	}), sh: "busybox stat -c '%F %t %T' $1/dev/null; echo gone >$1/dev/null; busybox wc -c <$1/dev/null", want: "character special file 1 3\n0"},
}

func TestProtectionAlone(t *testing.T) { testAlone(t, protectCases) }

// protected is a case of a step on a path of the container that is a mount.
func protected(s func(in func(path string) step.Inside) []step.Step) func(*bench) []step.Step {
	return mounted(func(b *bench) []step.Step {
		return s(func(path string) step.Inside { return step.Inside{Root: b.root, Path: path} })
	})
}

var (
	must   = func(in step.Inside) step.Inside { in.Must = true; return in }
	kernel = func(in step.Inside) step.Inside { in.Must, in.Kernel = true, true; return in }
)

var protectCases = []alone{
	{of: step.ReadOnlyPath{}, clone: unix.CLONE_NEWNS, given: files("d/x", "text"), steps: protected(func(in func(string) step.Inside) []step.Step {
		return []step.Step{step.ReadOnlyPath{Inside: in("/d")}}
	}), sh: "cat $1/d/x; echo; touch $1/d/x 2>/dev/null || echo refused; touch $1/y && echo not here", want: "text\nrefused\nnot here"},
	{of: step.ReadOnlyPath{}, what: "that is missing", clone: unix.CLONE_NEWNS, steps: protected(func(in func(string) step.Inside) []step.Step {
		return []step.Step{step.ReadOnlyPath{Inside: in("/none")}}
	}), sh: "ls -A $1 | wc -l", want: "0"},
	{of: step.ReadOnlyPath{}, what: "that must be there", clone: unix.CLONE_NEWNS, steps: protected(func(in func(string) step.Inside) []step.Step {
		return []step.Step{step.ReadOnlyPath{Inside: must(in("/none"))}}
	}), call: "openat2", errno: unix.ENOENT},
	{of: step.ReadOnlyPath{}, what: "of the kernel by a link", clone: unix.CLONE_NEWNS, given: linked, steps: protected(func(in func(string) step.Inside) []step.Step {
		return []step.Step{step.ReadOnlyPath{Inside: kernel(in("/link"))}}
	}), call: "openat2", errno: unix.ELOOP},
	{of: step.MaskFile{}, clone: unix.CLONE_NEWNS, given: files("secret", "text"), steps: protected(func(in func(string) step.Inside) []step.Step {
		return []step.Step{step.MaskFile{Inside: in("/secret")}}
	}), sh: "busybox stat -c '%t %T' $1/secret; cat $1/secret", want: "1 3"},
	{of: step.MaskFile{}, what: "that is a directory", clone: unix.CLONE_NEWNS, given: files("d/x", "text"), steps: protected(func(in func(string) step.Inside) []step.Step {
		return []step.Step{step.MaskFile{Inside: in("/d")}}
	}), sh: "cat $1/d/x", want: "text"},
	{of: step.MaskFile{}, what: "that must be one", clone: unix.CLONE_NEWNS, given: files("d", ""), steps: protected(func(in func(string) step.Inside) []step.Step {
		return []step.Step{step.MaskFile{Inside: must(in("/d"))}}
	}), call: "move_mount", errno: unix.EINVAL},
	{of: step.EmptyDir{}, clone: unix.CLONE_NEWNS, given: files("at/x", "text"), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.EmptyDir{At: b.dir + "/at", Dir: &b.kept}}
	}), look: func(b *bench) {
		b.eq(b.list(fmt.Sprint("fd/", b.result(&b.kept))), "")
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/fd/%d/x", b.p.Pid, b.result(&b.kept)), nil, 0o600); err == nil {
			b.Error("it can be written to")
		}
	}},
	{of: step.MaskDir{}, clone: unix.CLONE_NEWNS, given: files("at", "", "d/x", "text"), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.EmptyDir{At: b.dir + "/at", Dir: &b.kept}, step.MaskDir{Inside: step.Inside{Root: b.root, Path: "/d"}, Empty: &b.kept}}
	}), sh: "ls -A $1/d | wc -l; touch $1/d/y 2>/dev/null || echo refused", want: "0\nrefused"},
	{of: step.MaskDir{}, what: "that is a file", clone: unix.CLONE_NEWNS, given: files("at", "", "f", "text"), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.EmptyDir{At: b.dir + "/at", Dir: &b.kept}, step.MaskDir{Inside: step.Inside{Root: b.root, Path: "/f"}, Empty: &b.kept}}
	}), sh: "cat $1/f", want: "text"},
	{of: step.MaskDir{}, what: "that must be there", clone: unix.CLONE_NEWNS, given: files("at", ""), steps: mounted(func(b *bench) []step.Step {
		return []step.Step{step.EmptyDir{At: b.dir + "/at", Dir: &b.kept}, step.MaskDir{Inside: step.Inside{Root: b.root, Path: "/none", Must: true}, Empty: &b.kept}}
	}), call: "openat2", errno: unix.ENOENT},
}
