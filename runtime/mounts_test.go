package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestMaskedAndReadonlyPaths(t *testing.T) {
	b := newBox(t)
	if err := errors.Join(os.WriteFile(b.root()+"/etc/secret", []byte("s"), 0o644), os.MkdirAll(b.root()+"/etc/dir/sub", 0o755)); err != nil {
		t.Fatal(err)
	}
	b.spec.Linux.MaskedPaths = []string{"/proc/version", "/proc/no/such", "/etc/secret", "/etc/dir", "/etc/none"}
	b.spec.Linux.ReadonlyPaths = []string{"/proc/sys", "/tmp"}
	b.prints("wc -c </etc/secret; ls /etc/dir; stat -c %t:%T /proc/version; for f in /proc/sys/kernel/hostname /tmp/x /etc/dir/x; do echo x 2>&1 >$f | grep -c Read-only; done; echo x >/etc/y && echo written",
		"0\n1:3\n1\n1\n1\nwritten\n")
}

func TestReadonlyRoot(t *testing.T) {
	b := newBox(t)
	b.spec.Root.Readonly = true
	b.prints("touch /x 2>&1; echo x >/dev/x && echo dev", "touch: /x: Read-only file system\ndev\n")
}

// An image in which the places of kernel file systems are links: masks would
// go another way than the mounts.
func TestHostileRoots(t *testing.T) {
	for what, spoil := range map[string]func(b *box) error{
		"/proc is a link": func(b *box) error {
			return errors.Join(os.Remove(b.root()+"/proc"), os.Symlink("tmp", b.root()+"/proc"))
		},
		"/sys is a link": func(b *box) error {
			return errors.Join(os.Remove(b.root()+"/sys"), os.Symlink("/etc", b.root()+"/sys"))
		},
		"/proc is a link upwards": func(b *box) error {
			return errors.Join(os.Remove(b.root()+"/proc"), os.Symlink("../../../../../proc", b.root()+"/proc"))
		},
		"/proc is a file": func(b *box) error {
			return errors.Join(os.Remove(b.root()+"/proc"), os.WriteFile(b.root()+"/proc", nil, 0o644))
		},
		"a chain of links over /dev": func(b *box) error {
			b.spec.Mounts = append(b.spec.Mounts[1:2:2], b.spec.Mounts...) // the tmpfs first
			return errors.Join(os.Remove(b.root()+"/proc"), os.Symlink("dev/../dev/p", b.root()+"/proc"), os.Symlink("../tmp", b.root()+"/dev/p"))
		},
	} {
		b := newBox(t)
		if err := spoil(b); err != nil {
			t.Fatal(what, err)
		}
		b.spec.Linux.MaskedPaths = []string{"/proc/kcore"}
		b.refused("must be mounted on ordinary directory")
	}
}

// Other targets of mounts may be links: they stay inside.
func TestBindTargetsStayInside(t *testing.T) {
	b := newBox(t)
	outside, source := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink(outside, b.root()+"/link"), os.Symlink("../../../../../../"+outside, b.root()+"/up"), os.WriteFile(source+"/f", []byte("f"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"/link", "/up/x"} {
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: dst, Source: source, Type: "bind", Options: []string{"bind"}})
	}
	b.prints("cat "+outside+"/f "+outside+"/x/f", "ff")
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("on the host: %v", left)
	}
}

func TestTmpCopyUp(t *testing.T) {
	b := newBox(t)
	dir := b.root() + "/data"
	if err := errors.Join(os.MkdirAll(dir+"/sub", 0o751), os.WriteFile(dir+"/sub/f", []byte("text"), 0o640), os.Chown(dir+"/sub/f", 7, 8),
		unix.Chmod(dir+"/sub/f", 0o4750), os.Symlink("sub/f", dir+"/l"), unix.Mkfifo(dir+"/p", 0o600)); err != nil {
		t.Fatal(err)
	}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/data", Source: "tmpfs", Type: "tmpfs", Options: []string{"nodev", "tmpcopyup"}})
	b.prints("cd /data; cat l; stat -c '%n %a %u:%g %F' sub/f p; readlink l; echo new >sub/f; grep -c ' /data tmpfs' /proc/mounts",
		"textsub/f 4750 7:8 regular file\np 600 0:0 fifo\nsub/f\n1\n")
	if text, _ := os.ReadFile(dir + "/sub/f"); string(text) != "text" {
		t.Errorf("the root was changed: %q", text)
	}
}

func TestIDMappedMount(t *testing.T) {
	b := newBox(t)
	source := t.TempDir()
	if err := os.WriteFile(source+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 5000, Size: 10}}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/m", Source: source, Type: "bind", Options: []string{"bind"}, UIDMappings: ids, GIDMappings: ids})
	b.prints("stat -c %u:%g /m/f", "5000:5000\n")
	b.spec.Mounts[len(b.spec.Mounts)-1] = specs.Mount{Destination: "/m", Source: source, Type: "bind", Options: []string{"bind", "idmap"}}
	b.refused("id-mapped mount without mappings")
	b.inUserNamespace()
	b.prints("stat -c %u:%g /m/f", "0:0\n") // as the user namespace has it
	b.spec.Mounts[len(b.spec.Mounts)-1] = specs.Mount{Destination: "/m", Source: "tmpfs", Type: "tmpfs", UIDMappings: ids, GIDMappings: ids}
	b.refused("id-mapped mounts are for bind mounts")
}

func TestNoPivot(t *testing.T) {
	b := newBox(t)
	o := b.options()
	o.NoPivot = true
	o.Spec.Process.Args = []string{"sh", "-c", "ls -d /bin; ls " + b.bundle + " 2>/dev/null; chroot . /bin/true 2>/dev/null; test ! -e /../" + b.bundle + " && echo alone; cat /proc/self/mounts | grep -c ' /sys '"}
	out, exit, err := b.output(o)
	if err != nil || out != "/bin\nalone\n1\n" || exit.Code != 0 {
		t.Errorf("%q, %v, %v", out, exit, err)
	}
}

func TestRootPropagation(t *testing.T) {
	for option, want := range map[string]string{"": "private", "private": "private", "slave": "slave", "shared": "shared", "rshared": "shared", "unbindable": "unbindable"} {
		b := newBox(t)
		b.spec.Linux.RootfsPropagation = option
		b.sh("grep ' / / \\| /rootfs / \\|rootfs / ' /proc/self/mountinfo")
		out, exit, err := b.output(b.options())
		got := "private"
		for _, p := range []string{"master", "shared", "unbindable"} {
			if strings.Contains(out, " "+p) {
				got = strings.Replace(p, "master", "slave", 1)
			}
		}
		if err != nil || exit.Code != 0 || out == "" || got != want && !(want == "slave" && got == "private") { // without a shared master a slave is private
			t.Errorf("%q: %s is %s, want %s; %v, %v", option, out, got, want, exit, err)
		}
	}
}

func TestRelativeBindSource(t *testing.T) {
	b := newBox(t)
	if err := os.WriteFile(filepath.Join(b.bundle, "f"), []byte("of the bundle"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/f", Source: "f", Options: []string{"rbind", "ro"}})
	b.prints("cat /f", "of the bundle")
	b.spec.Mounts[len(b.spec.Mounts)-1].Source = "none"
	b.refused("none: no such file or directory")
}
