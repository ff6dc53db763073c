package step

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var root = &Result{Name: "root"}

// all has one of each step type.
func all() []Step {
	tree, err := &Result{Name: "tree"}, &Result{Name: "err"}
	return []Step{
		Signals{}, Umask{0o22}, NewSession{}, Undumpable{}, Dup{Int(20), 1}, CloseFrom{First: 3, Keep: []Kept{{Int(20), err}}},
		Unshare{unix.CLONE_NEWCGROUP}, SetNS{Int(20), unix.CLONE_NEWNET, "web"}, Loopback{}, Hostname{"h"}, Domainname{"d"},
		WriteFile{"/proc/sys/kernel/msgmax", "5"}, Rlimit{"RLIMIT_CORE", unix.RLIMIT_CORE, 0, 0}, Await{FD: Int(20), Peer: Int(21), For: "x"},
		AwaitStart{Int(3), Int(4), "start", err}, Exec{Args: []string{"sh"}, Path: []string{"/bin", ""}}, NoNewPrivs{}, Handover{unix.CLONE_NEWPID}, Keyring{"_ses.x", "", true}, Keyring{Name: "_ses.x"}, Seccomp{Program: make([]byte, 8)},
		ExecLabel{"/proc/self/attr/exec", "l"}, Personality{8}, IOPriority{2, 4}, Scheduler{}, Affinity{[]byte{1}, "0"}, MemoryPolicy{Nodes: []byte{1}}, TimeNamespace{"boottime 1 0"}, Tell{Int(20), "here"}, Pause{}, DieBySignal{}, Close{Int(20)}, LookPath{"sh", []string{"/bin", "/usr/bin"}, false}, LookPath{"sh", nil, true}, Dumpable{}, Credentials{Unsure: true},
		Reaper{true}, Credentials{UID: 1, GID: 2, Groups: []uint32{3}, KeepCaps: true}, DropBounding{1 << 5},
		Capabilities{Effective: 1, Permitted: 1, Ambient: 1}, LeaveMemory{}, HideBinary{},
		Propagation{unix.MS_REC | unix.MS_SLAVE}, Overlay{Base: "/b", Lower: []string{"l"}, Upper: "u", Work: "w", Target: "t", Root: root},
		Overlay{Base: "/b", Lower: []string{"l", "m"}, Upper: "u", Work: "w", Target: "t", Root: root, UserXattr: true, Volatile: true, OneByOne: true},
		BindRoot{"/r", root}, MakeDir{root, "/a/b", 0o755}, MountFS{Root: root, Source: "proc", Type: "proc", Target: "/proc"},
		CloneTree{Path: "/srv", Recursive: true, Top: MountAttr{Set: unix.MOUNT_ATTR_RDONLY}, All: MountAttr{Propagation: unix.MS_PRIVATE}, Tree: tree},
		NewTree{"cgroup2", unix.MOUNT_ATTR_RDONLY, tree}, PlaceTree{Root: root, Tree: tree, Target: "/a/file", File: true}, SetAttr{root, MountAttr{Set: unix.MOUNT_ATTR_RDONLY}, "why"},
		ReadOnlyPath{Inside{root, "/proc/sys", true, true}}, MaskFile{Inside{Root: root, Path: "/srv/x"}}, EmptyDir{"/sys", tree}, MaskDir{Inside{Root: root, Path: "/proc/acpi", Kernel: true}, tree},
		PivotRoot{root}, MoveRoot{root, []string{"/proc"}}, Chroot{root}, Chdir{Path: "/w"}, Chdir{"/w", &Result{"cwd", -1}}, ChdirAgain{"/w", &Result{"cwd", -1}},
		Node{Root: root, Path: "/dev/null", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3, UID: 1},
		Node{Root: root, Path: "/dev/null", Mode: unix.S_IFCHR | 0o666, OrBind: true}, Symlink{root, "/dev/fd", "/proc/self/fd", nil}, Symlink{root, "/dev/fd", "/proc/self/fd", tree}, OpenDir{root, "/dev/net", tree}, Terminal{Root: root, Socket: Int(20), Console: true}, Terminal{Socket: Int(20)},
	}
}

func TestEveryStepPrintsAndCalls(t *testing.T) {
	for _, s := range all() {
		if s.String() == "" {
			t.Errorf("%T says nothing", s)
		}
		calls := s.Calls()
		if len(calls) == 0 {
			t.Errorf("%T does nothing", s)
		}
		for _, c := range calls {
			if len(c.Args) > 6 || len(c.May) > 3 {
				t.Errorf("%T: %s has too many arguments or tolerated errors", s, c.Name)
			}
			if text := c.String(); !strings.HasPrefix(text, c.Name+"(") || strings.Contains(text, "(,") || strings.Contains(text, ", ,") {
				t.Errorf("%T prints %q", s, text)
			}
		}
	}
}

// Skips must stay within the step: the calls passed over are its own.
func TestSkipsStayInside(t *testing.T) {
	for _, s := range all() {
		calls := s.Calls()
		for i, c := range calls {
			if i+c.Skip >= len(calls) && c.Skip > 0 {
				t.Errorf("%T: %s skips %d of %d that follow", s, c.Name, c.Skip, len(calls)-i-1)
			}
		}
	}
}

// No path of the container is used but by descriptor of the root, or after it was entered.
func TestContainerPathsGoByDescriptor(t *testing.T) {
	hostile := "../../../etc/../x"
	for _, s := range []Step{
		MountFS{Root: root, Source: "tmpfs", Type: "tmpfs", Target: hostile}, MakeDir{root, hostile, 0o755},
		PlaceTree{Root: root, Tree: &Result{Name: "tree"}, Target: hostile, File: true}, MaskFile{Inside{Root: root, Path: hostile}},
		MaskDir{Inside{Root: root, Path: hostile}, root}, ReadOnlyPath{Inside{Root: root, Path: hostile}}, SetAttrAt{Root: root, Path: hostile}, Node{Root: root, Path: hostile, Mode: unix.S_IFCHR}, Symlink{root, hostile, "to", nil}, OpenDir{root, hostile, &Result{Name: "dir"}},
	} {
		for _, c := range s.Calls() {
			if text := c.String(); strings.Contains(text, "..") || strings.Contains(text, "AT_FDCWD, \"x") {
				t.Errorf("%T: %s", s, text)
			}
		}
	}
}

func TestOverlayOptionsAreEscaped(t *testing.T) {
	got := Overlay{Lower: []string{"a:b", "c,d"}, Upper: `e\f`, Work: "w", UserXattr: true}.Options()
	if want := `lowerdir=a\:b:c\,d,upperdir=e\\f,workdir=w,userxattr`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCapabilityNames(t *testing.T) {
	for n := range capNames {
		if CapNumber(CapName(n)) != n {
			t.Errorf("%d: %s", n, CapName(n))
		}
	}
	if CapNumber("CHOWN") != -1 || CapNumber("CAP_NOPE") != -1 || CapName(21) != "CAP_SYS_ADMIN" || CapName(60) != "CAP_60" {
		t.Error("names and numbers disagree")
	}
}
