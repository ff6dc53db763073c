package rootfs

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// What is declared as known must not reach a file system as data.
func TestMountOptions(t *testing.T) {
	if !slices.IsSorted(MountOptions()) {
		t.Error("not sorted")
	}
	for _, name := range MountOptions() {
		o := parseOptions([]string{name})
		if len(o.data) > 0 {
			t.Errorf("%s: not understood (%v)", name, o)
		}
	}
	if o := parseOptions([]string{"rnorelatime"}); o.recSet != 0 || o.recClear != 0 {
		t.Errorf("rnorelatime changes access times: %+v", o)
	}
	if o := parseOptions([]string{"mode=755"}); len(o.data) != 1 {
		t.Errorf("mode=755 is taken for an option of the mount: %v", o)
	}
}

type noFacts struct{ Facts }

func (noFacts) Kind(string) byte                       { return 'd' }
func (noFacts) Inside(p string) (string, uint32, bool) { return p, 0, false }

// A tree stays a peer of the host's mount only where the root's propagation says
// so; else it is taken in its turn, from copies that are slaves.
func TestPeersOfTheHost(t *testing.T) {
	for _, c := range []struct {
		option        string
		peers         bool
		first, slaves bool
	}{
		{"rprivate", true, false, false}, {"rshared", true, true, true}, {"rslave", true, true, true},
		{"rprivate", false, false, false}, {"rshared", false, false, true}, {"rslave", false, false, true},
	} {
		s := Setting{InOrder: true, RootDir: "/b/rootfs", Peers: c.peers}
		tree, err := s.Mounts([]specs.Mount{{Destination: "/d", Type: "bind", Source: "/s", Options: []string{"rbind", c.option}}}, &step.Result{Name: "root"}, noFacts{})
		if err != nil {
			t.Fatal(err)
		}
		if (len(tree.First) > 0) != c.first || tree.Slaves != c.slaves {
			t.Errorf("%s, peers %v: %d trees taken first, slaves %v", c.option, c.peers, len(tree.First), tree.Slaves)
		}
		s.Trees = true // as with a user namespace: the caller takes it
		if tree, err = s.Mounts([]specs.Mount{{Destination: "/d", Type: "bind", Source: "/s", Options: []string{"rbind", c.option}}}, &step.Result{Name: "root"}, noFacts{}); err != nil {
			t.Fatal(err)
		}
		if len(tree.Takes) != 1 || tree.Takes[0].Slave != (c.slaves && !c.peers) {
			t.Errorf("%s, peers %v: the caller's tree: %+v", c.option, c.peers, tree.Takes)
		}
	}
}

// A recursive bind mount of /sys brings the host's cgroup mount along, and
// mount(2) would leave that as it is.
func TestCgroupMountThatIsThere(t *testing.T) {
	list := []specs.Mount{{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "ro"}}}
	for skip, want := range []bool{true, false} {
		s := Setting{InOrder: true, RootDir: "/b/rootfs", CgroupNS: true, Cgroups: func() string { return "/sys/fs/cgroup" }}
		tree, err := s.Mounts(list[skip:], &step.Result{Name: "root"}, noFacts{})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(tree.Late, func(s step.Step) bool { _, ok := s.(step.NewTree); return ok })
		if (i >= 0) != want || want && tree.Late[i].(step.NewTree).Attrs != unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID {
			t.Errorf("with a tree below it: %v: %v", want, tree.Late)
		}
	}
}
