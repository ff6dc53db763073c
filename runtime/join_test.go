package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inUserNamespace gives the container ids of its own, and a root file system
// that they may enter.
func (b *box) inUserNamespace() {
	b.Helper()
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 1000}}
	b.namespace(specs.UserNamespace, "")
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = ids, ids
	for dir := b.root(); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			b.Fatal(err)
		}
	}
}

func TestUserNamespace(t *testing.T) {
	b := newBox(t)
	b.inUserNamespace()
	adj := 500
	b.spec.Process.OOMScoreAdj = &adj
	b.prints(`set -- $(cat /proc/self/uid_map); echo $1 $2 $3; id -u; stat -c %u /bin; cat /proc/self/oom_score_adj; test -c /dev/null && echo x >/dev/null && echo null`,
		"0 100000 1000\n0\n65534\n500\nnull\n")
	b.spec.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}
	b.prints("id -u; id -g; id -G", "7\n8\n8 9\n")
	b.sh("exec sleep 100")
	c := b.started("c")
	out, _, err := b.exec(c, nil, "sh", "-c", "id -u; readlink /proc/self/ns/user")
	want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", c.state.Pid))
	if err != nil || out != "7\n"+want+"\n" {
		t.Errorf("exec: %q, %v", out, err)
	}
	b.spec.Linux.GIDMappings = nil
	b.refused("user namespaces enabled, but no uid or gid mappings found")
	b.without(specs.UserNamespace)
	b.refused("user namespace mappings specified, but user namespace isn't enabled in the config")
}

// namespacesOf are the links of a process.
func namespacesOf(pid int, kinds ...string) string {
	var out []string
	for _, k := range kinds {
		l, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, k))
		if err != nil {
			l = err.Error()
		}
		out = append(out, l)
	}
	return strings.Join(out, " ")
}

func TestJoinByPath(t *testing.T) {
	b := newBox(t)
	b.namespace(specs.TimeNamespace, "")
	b.inUserNamespace()
	first := b.started("first")
	ids := b.spec.Linux.UIDMappings
	kinds := map[specs.LinuxNamespaceType]string{specs.UserNamespace: "user", specs.PIDNamespace: "pid",
		specs.NetworkNamespace: "net", specs.TimeNamespace: "time", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts"}
	for _, set := range [][]specs.LinuxNamespaceType{
		{specs.UserNamespace, specs.PIDNamespace, specs.NetworkNamespace, specs.TimeNamespace, specs.IPCNamespace, specs.UTSNamespace},
		{specs.UserNamespace}, {specs.UserNamespace, specs.NetworkNamespace},
	} {
		b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings, b.spec.Hostname = nil, nil, ""
		var names []string
		for k := range kinds {
			b.namespace(k, "")
		}
		for _, k := range set {
			b.namespace(k, fmt.Sprintf("/proc/%d/ns/%s", first.state.Pid, kinds[k]))
			names = append(names, kinds[k])
		}
		c := b.started("second")
		if got, want := namespacesOf(c.state.Pid, names...), namespacesOf(first.state.Pid, names...); got != want {
			t.Errorf("joined %v: %s, want %s", names, got, want)
		}
		if got, theirs := namespacesOf(c.state.Pid, "mnt"), namespacesOf(first.state.Pid, "mnt"); got == theirs {
			t.Error("the mount namespace is shared")
		}
		out, exit, err := b.exec(c, nil, "sh", "-c", "id -u; readlink /proc/self/ns/user")
		if err != nil || exit.Code != 0 || out != "0\n"+namespacesOf(first.state.Pid, "user")+"\n" {
			t.Errorf("exec after joining %v: %q, %v, %v", names, out, exit, err)
		}
		b.delete(c)
		c.Wait() // the first process of a pid namespace ends after all others are reaped (pid_namespaces(7))
	}
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = ids, ids
	b.status(first, Running)
}

func TestJoinWithoutUserNamespace(t *testing.T) {
	b := newBox(t)
	first := b.started("first")
	for kind, file := range map[specs.LinuxNamespaceType]string{specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.UTSNamespace: "uts"} {
		b.namespace(kind, fmt.Sprintf("/proc/%d/ns/%s", first.state.Pid, file))
	}
	b.spec.Hostname = ""
	c := b.started("second")
	if got, want := namespacesOf(c.state.Pid, "pid", "net", "uts"), namespacesOf(first.state.Pid, "pid", "net", "uts"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	own, _ := os.Readlink("/proc/thread-self/ns/pid_for_children")
	if want := namespacesOf(os.Getpid(), "pid"); own != want {
		t.Errorf("a thread stays in %s, want %s", own, want)
	}
	if err := c.Kill(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	b.status(first, Running)
}

func TestNamespacesThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(b *box){
		"malformed spec file: duplicated ns": func(b *box) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UTSNamespace})
		},
		`unknown namespace "x"`:     func(b *box) { b.namespace("x", "") },
		"no such file or directory": func(b *box) { b.namespace(specs.NetworkNamespace, "/no/such") },
		"time namespace offsets specified, but time namespace isn't enabled": func(b *box) {
			b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		},
		`unknown clock "x"`: func(b *box) {
			b.namespace(specs.TimeNamespace, "")
			b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"x": {Secs: 1}}
		},
		"both namespace path and time offsets": func(b *box) {
			b.namespace(specs.TimeNamespace, "/proc/self/ns/time")
			b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		},
		"unable to restrict sys entries without a private MNT namespace": func(b *box) {
			b.without(specs.MountNamespace)
			b.spec.Linux.MaskedPaths = []string{"/proc/kcore"}
		},
	} {
		b := newBox(t)
		change(b)
		b.refused(want)
	}
}

func TestTimeOffsets(t *testing.T) {
	b := newBox(t)
	b.namespace(specs.TimeNamespace, "")
	b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000, Nanosecs: 5}, "monotonic": {Secs: 7}}
	b.prints("while read a b c; do echo $a $b $c; done </proc/self/timens_offsets; set -- $(cat /proc/uptime); test ${1%.*} -gt 1000000 && echo up",
		"monotonic 7 0\nboottime 1000000 5\nup\n")
	b.sh("exec sleep 100")
	c := b.started("c")
	out, _, err := b.exec(c, nil, "readlink", "/proc/self/ns/time")
	if want := namespacesOf(c.state.Pid, "time") + "\n"; err != nil || out != want {
		t.Errorf("exec: %q, want %q, %v", out, want, err)
	}
}

// Without a mount namespace a container is in the caller's, below its root.
func TestHostMountNamespace(t *testing.T) {
	b := newBox(t)
	b.without(specs.MountNamespace)
	b.spec.Mounts = nil
	b.prints("ls /bin/sh; test ! -e "+b.bundle+" && readlink /proc/self/ns/mnt || echo alone", "/bin/sh\nalone\n")
}
