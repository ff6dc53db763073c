package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/mountinfo"
	"github.com/berth-run/berth/runtime/criu"
)

const someMounts = `712 711 0:45 /fs / rw,relatime - overlay overlay rw
713 712 0:46 / /proc rw - proc proc rw
714 712 0:47 / /dev rw - tmpfs tmpfs rw
715 712 8:1 /d /a\040b rw master:1 - ext4 /dev/sda rw
716 715 8:2 / /a\040b/sub rw - ext4 /dev/sdb rw
717 712 8:1 /d /tree rw - ext4 /dev/sda rw
718 717 8:2 / /tree/sub rw - ext4 /dev/sdb rw
719 717 0:48 / /tree/own rw - tmpfs tmpfs rw
720 713 0:5 /null /proc/kcore rw - devtmpfs dev rw
721 713 0:49 / /proc/acpi ro - tmpfs tmpfs ro
722 714 0:5 /fuse /dev/fuse rw - devtmpfs dev rw
723 712 8:1 /x /real/conf rw - ext4 /dev/sda rw
short
`

func table(list string) mountTable { return slices.Collect(mountinfo.All(list)) }

func TestExternalMounts(t *testing.T) {
	spec := &specs.Spec{
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/a b", Type: "bind", Source: "/d"},
			{Destination: "/tree/", Options: []string{"rbind"}, Source: "/d"},
			{Destination: "/tree/own", Type: "tmpfs"},
			{Destination: "/conf", Type: "bind", Source: "/x"},
			{Destination: "/undone", Type: "bind", Source: "/x"}, // unmounted since
		},
		Linux: &specs.Linux{MaskedPaths: []string{"/proc/kcore", "/proc/acpi", "/proc/missing"},
			Devices: []specs.LinuxDevice{{Path: "/dev/fuse"}}},
	}
	follow := func(name string) (string, bool, error) {
		switch name {
		case "/conf":
			return "/real/conf", true, nil
		case "/tree/":
			return "/tree", true, nil
		case "/proc/missing":
			return "", false, &os.PathError{Op: "openat2", Path: name, Err: unix.ENOENT}
		}
		return name, name == "/proc/acpi", nil
	}
	got, err := external(spec, table(someMounts), follow)
	want := externalPairs("/a b", "/a b", "/tree", "/tree", "/real/conf", "/real/conf",
		"/proc/kcore", "/dev/null", "/dev/fuse", "/dev/fuse", "/tree/sub", "/tree/sub")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%v, want\n%v", err, got, want)
	}
	spec.Mounts[1].Options = []string{"idmap"}
	if _, err := external(spec, nil, follow); err == nil || !strings.Contains(err.Error(), "/a b are mapped") {
		t.Errorf("an id-mapped mount: %v", err)
	}
	spec.Mounts[1].Options = nil
	broken := errors.New("broken")
	if _, err := external(spec, nil, func(string) (string, bool, error) { return "", false, broken }); !errors.Is(err, broken) {
		t.Errorf("a path that cannot be followed: %v", err)
	}
}

func externalPairs(s ...string) (out []criu.External) {
	for i := 0; i < len(s); i += 2 {
		out = append(out, criu.External{Key: s[i], Value: s[i+1]})
	}
	return out
}

func TestMountTable(t *testing.T) {
	m := table(someMounts)
	if len(m) != 12 || !m.has(722) || m.has(5) || m[3].Point != "/a b" {
		t.Errorf("%d mounts: %+v", len(m), m)
	}
	if got := fdinfoMount("pos:\t0\nflags:\t02\nmnt_id:\t31\nino:\t5\n"); got != 31 {
		t.Errorf("mount id %d", got)
	}
	if got := fdinfoMount("pos:\t0\n"); got != -1 {
		t.Errorf("no mount id is %d", got)
	}
}

func TestStreams(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if got := streams(null, nil, null); got != nil {
		t.Errorf("without pipes: %q", got)
	}
	link, err := os.Readlink("/proc/self/fd/" + itoa(int(w.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	if got := streams(null, w, nil); !slices.Equal(got, []string{"", link, ""}) {
		t.Errorf("%q, want %s", got, link)
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// The host's /dev/null is open in this process, on a mount that a container's
// table would not have.
func TestHostFile(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f     *os.File
		table mountTable
		null  bool
		found bool
	}{
		{null, nil, true, true}, {null, nil, false, true}, {null, table(string(own)), true, false},
		{file, nil, false, true}, {file, nil, true, false}, {file, table(string(own)), false, false},
	} {
		key := hostFile(os.Getpid(), int(c.f.Fd()), c.table, c.null)
		if (key != "") != c.found || c.found && !strings.HasPrefix(key, "file[") {
			t.Errorf("%s, null %v, %d mounts: %q", c.f.Name(), c.null, len(c.table), key)
		}
	}
	if key := hostFile(os.Getpid(), 9999, nil, false); key != "" {
		t.Errorf("a descriptor that is not open: %q", key)
	}
}

func TestWithin(t *testing.T) {
	mounts := []specs.Mount{{Destination: "/dev", Type: "tmpfs"}, {Destination: "/dev/bound", Type: "bind"}, {Destination: "/data/", Type: "bind"}}
	same := func(s string) string { return s }
	for dest, want := range map[string]bool{"/dev/pts": true, "/dev": false, "/dev/bound/x": false, "/data/x": false, "/devil/x": false, "/x": false} {
		if got := within(dest, mounts, same); got != want {
			t.Errorf("%s: %v", dest, got)
		}
	}
	if !within("/x", []specs.Mount{{Destination: "/", Type: "tmpfs"}}, same) {
		t.Error("below a mount on the root")
	}
}

// The mount points that criu wants are made in the root, links are followed in it
// and never out of it, and no mount is left.
func TestRestoreTree(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	dir := t.TempDir()
	root, bound, file := filepath.Join(dir, "root"), filepath.Join(dir, "bound"), filepath.Join(dir, "file")
	for _, d := range []string{root, bound, filepath.Join(root, "real"), filepath.Join(root, "tmp")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"conf": "/real", "out": "../../../../../../tmp"} {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	tr := &tree{spec: &specs.Spec{Root: &specs.Root{Path: root}, Linux: &specs.Linux{}, Mounts: []specs.Mount{
		{Destination: "/proc", Type: "proc"},
		{Destination: "/dev", Type: "tmpfs"},
		{Destination: "/dev/mqueue", Type: "mqueue"},
		{Destination: "/conf", Type: "bind", Source: bound},
		{Destination: "/conf/nested/deep", Type: "bind", Source: bound},
		{Destination: "/etc/file", Type: "bind", Source: file},
		{Destination: "/dev/file", Type: "bind", Source: file},
		{Destination: "/out/x", Type: "bind", Source: bound},
	}}}
	if _, err := tr.mountPoint(dir); err != nil {
		t.Fatal(err)
	}
	seen := "" // by criu
	ext, err := tr.start(func() error {
		b, err := os.ReadFile(filepath.Join(tr.at, "etc/file"))
		seen = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != "x" {
		t.Errorf("the file is not bound: %q", seen)
	}
	for _, want := range externalPairs("/dev/null", "/dev/null", "/real", bound, "/real/nested/deep", bound, "/etc/file", file,
		"/dev/file", file, "/tmp/x", bound) {
		if !slices.Contains(ext, want) {
			t.Errorf("%v is not among %v", want, ext)
		}
	}
	for _, made := range []string{root + "/proc", root + "/dev", root + "/etc/file", root + "/tmp/x", bound + "/nested/deep"} {
		if _, err := os.Lstat(made); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(root + "/dev/mqueue"); err == nil {
		t.Error("/dev/mqueue lies in a tmpfs, which criu restores")
	}
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), dir) {
		t.Error("a mount is left")
	}
}
