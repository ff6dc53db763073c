package engine

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/step"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixed stands in for a host, so that plans are the same everywhere.
type fixed map[string]byte

func (f fixed) Kind(path string) byte { return f[path] }
func (f fixed) Inside(path string) (string, uint32, bool) {
	return path, 0, false
}
func (f fixed) PageSize() int        { return 4096 - 4000*int(f["page"]) }
func (f fixed) LayersOneByOne() bool { return f["lowerdir+"] != 0 }
func (f fixed) LastCap() int         { return 40 }
func (f fixed) Privileged() bool     { return true }
func (f fixed) Rights() bool         { return true }
func (f fixed) KernelMounts() []string {
	return []string{"/sys", "/proc"}
}
func (f fixed) Cgroups() string { return "/sys/fs/cgroup" }

func plan(t *testing.T, s *specs.Spec, waiting bool) *Plan {
	t.Helper()
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096}}
	dir := ""
	if waiting {
		dir = "/run/golden"
	}
	p, err := decide(Config{
		ID: "golden", Spec: s, Network: func(int) error { return nil },
		Rootfs: rootfs.Overlay{Base: "/var/lib/berth", Lower: []string{"layers/aa", "layers/bb"}, Upper: "containers/c/upper", Work: "containers/c/work"},
	}, fixed{"/sys": 'd', "/proc/kcore": 'f', "/proc/acpi": 'd', "/proc/sys": 'd', "/srv": 'd', "/srv/file": 'f'}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func golden(t *testing.T, name string, p *Plan) {
	t.Helper()
	var b bytes.Buffer
	p.Print(&b)
	file := "testdata/" + name + ".plan"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("%s (go test ./runtime -update writes it anew):\n%s", file, d)
	}
}

func TestGoldenPlans(t *testing.T) {
	golden(t, "run", plan(t, testSpec("sh", "-c", "true"), false))

	s := testSpec("/bin/app")
	s.Root.Readonly = true
	s.Process.Terminal = true
	s.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{4, 5}}
	s.Process.NoNewPrivileges = true
	s.Process.Cwd = "/work/dir"
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "5"}
	s.Linux.Namespaces[2].Path = "/proc/1/ns/net"
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/data/dir", Type: "bind", Source: "/srv", Options: []string{"rbind", "rro", "rslave"}},
		specs.Mount{Destination: "/etc/file", Type: "bind", Source: "/srv/file", Options: []string{"bind", "ro"}})
	golden(t, "everything", plan(t, s, false))

	golden(t, "create", plan(t, testSpec("/bin/app"), true))
}

// Layers whose names do not fit in a page are given one by one; paths as they
// are, but for the two that overlayfs unescapes (fs/overlayfs/params.c).
func TestManyLayers(t *testing.T) {
	c := Config{ID: "golden", Spec: testSpec("sh"), Rootfs: rootfs.Overlay{Base: "/var/lib/berth", Lower: []string{"mountpoints", "layers/a:b/fs", "layers/c,d/fs"},
		Upper: "containers/c,1/upper", Work: "containers/c,1/work", UserXattr: true, Volatile: true}}
	p, err := decide(c, fixed{"/sys": 'd', "page": 1, "lowerdir+": 1}, "")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "layers", p)
	if p, err := decide(c, fixed{"page": 1}, ""); !errors.Is(err, rootfs.ErrManyLayers) || !strings.Contains(err.Error(), "3 layers") {
		t.Errorf("a kernel without lowerdir+: %v, %v", p, err)
	}
	overlay := func(layers int) step.Overlay {
		c.Rootfs = rootfs.Overlay{Base: "/var/lib/berth", Lower: slices.Repeat([]string{"layers/0123456789ab/fs"}, layers), Upper: "c/upper", Work: "c/work"}
		p, err := decide(c, fixed{"lowerdir+": 1}, "")
		if err != nil {
			t.Fatal(err)
		}
		return p.child.Steps[slices.IndexFunc(p.child.Steps, func(s step.Step) bool { return typeName(s) == "Overlay" })].(step.Overlay)
	}
	for n := range 300 {
		if s := overlay(n); s.OneByOne != (len(s.Options()) > 4095) { // and a NUL
			t.Fatalf("%d layers: %d bytes of options, one by one: %v", n, len(s.Options()), s.OneByOne)
		}
	}
}

// rightless is a caller who has rights only in a user namespace of the container.
type rightless struct{ fixed }

func (rightless) Privileged() bool { return false }
func (rightless) Rights() bool     { return false }

// Such a caller's child hides the binary in the first moment in which it may,
// before there is anybody who could look, and holds no directory of the host.
func TestRightlessOrder(t *testing.T) {
	index := func(p *Plan, like step.Step) int {
		return slices.IndexFunc(p.child.Steps, func(s step.Step) bool { return typeName(s) == typeName(like) })
	}
	for name, path := range map[string]string{"own": "", "joined": "/proc/1/ns/user"} {
		s := testSpec("/bin/app")
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
		if path == "" {
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
		}
		p, err := decide(Config{ID: "t", Spec: s, Rootfs: rootfs.Bundle{Path: "/r"}}, rightless{fixed{"/sys": 'd'}}, "/run/t")
		if err != nil {
			t.Fatal(err)
		}
		hide, join := index(p, step.HideBinary{}), index(p, setNS{})
		if join >= 0 && hide != join+1 || join < 0 && hide != index(p, step.LeaveMemory{})+1 {
			t.Errorf("%s: joined at %d, hidden at %d", name, join, hide)
		}
		take := index(p, step.CloneTree{})
		if c, ok := p.child.Steps[take].(step.CloneTree); !ok || c.Path != "/run/t" || take < index(p, step.Propagation{}) || p.files.state.arg != nil {
			t.Errorf("%s: the FIFO's directory is taken at %d: %v", name, take, p.child.Steps[take])
		}
	}
}

// The order is what makes a plan safe; each pair is a rule.
func TestOrder(t *testing.T) {
	s := testSpec("/bin/app")
	s.Process.NoNewPrivileges = true
	s.Process.User.UID = 1
	s.Root.Readonly = true
	s.Linux.Sysctl = map[string]string{"kernel.msgmax": "5"}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/d", Type: "bind", Source: "/srv", Options: []string{"bind"}})
	steps := plan(t, s, false).child.Steps
	index := func(like step.Step) int {
		return slices.IndexFunc(steps, func(s step.Step) bool {
			return typeName(s) == typeName(like)
		})
	}
	for _, r := range []struct {
		first, then step.Step
		why         string
	}{
		{step.LeaveMemory{}, step.HideBinary{}, "the kernel refuses while the binary is mapped"},
		{step.HideBinary{}, step.Propagation{}, "nothing of the container may see the binary"},
		{step.Propagation{}, step.Overlay{}, "no mount may reach the host"},
		{step.CloneTree{}, step.Overlay{}, "the root may lie on top of a source"},
		{step.Overlay{}, step.MountFS{}, "mounts lie in the root"},
		{step.WriteFile{}, step.ReadOnlyPath{}, "a sysctl is written before /proc/sys is read-only"},
		{step.MountFS{}, step.MaskFile{}, "what is hidden was mounted"},
		{step.MaskFile{}, step.PivotRoot{}, "the host's /dev/null is taken"},
		{step.SetAttr{}, step.PivotRoot{}, "read-only last, but by descriptor"},
		{step.PivotRoot{}, step.CloseFrom{}, "the root is entered by descriptor"},
		{step.CloseFrom{}, step.Chdir{}, "a path could lead through a descriptor of the host (CVE-2024-21626)"},
		{step.DropBounding{}, step.Credentials{}, "CAP_SETPCAP goes with the user"},
		{step.Credentials{}, step.Capabilities{}, "a change of user clears the effective set"},
		{step.Capabilities{}, step.NoNewPrivs{}, "the last right to go"},
		{step.Capabilities{}, step.Signals{}, "no signal may end a half-made container"},
		{step.Signals{}, step.NoNewPrivs{}, "a filter, which follows, may forbid it"},
	} {
		a, b := index(r.first), index(r.then)
		if a < 0 || b < 0 || a > b {
			t.Errorf("%s (%d) must come before %s (%d): %s", typeName(r.first), a, typeName(r.then), b, r.why)
		}
	}
	if _, ok := steps[len(steps)-1].(step.Exec); !ok {
		t.Error("the last step is not Exec")
	}
}

// typeName is the name of a step's type; a step that waits for a descriptor's
// number goes by the name of what it will be.
func typeName(s step.Step) string {
	if _, ok := s.(closeFrom); ok {
		return "CloseFrom"
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", s), "step.")
}

func TestBadSpecs(t *testing.T) {
	for name, spoil := range map[string]func(*specs.Spec){
		"no command":     func(s *specs.Spec) { s.Process.Args = nil },
		"relative cwd":   func(s *specs.Spec) { s.Process.Cwd = "x" },
		"NUL byte":       func(s *specs.Spec) { s.Process.Env = []string{"A=\x00"} },
		"rlimit":         func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOPE"}} },
		"no mount ns":    func(s *specs.Spec) { s.Linux.Namespaces = nil },
		"missing source": func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Source: "/no/such"}} },
		"time offsets":   func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} },
		"ids unmapped": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		},
		"twice":         func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0]) },
		"memory policy": func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "INTERLEAVE"} },
		"personality":   func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "SOLARIS"} },
		"io priority": func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_BE", Priority: 9}
		},
		"scheduler":        func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_OTHER", Deadline: 1} },
		"mount of nothing": func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/x"}} },
	} {
		s := testSpec("true")
		spoil(s)
		if _, err := decide(Config{Spec: s, Rootfs: rootfs.Bundle{Path: "/r"}}, fixed{}, ""); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
