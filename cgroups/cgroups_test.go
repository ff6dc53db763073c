package cgroups

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const hybrid = `30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`

func TestMounts(t *testing.T) {
	v2, v1 := parseMounts(hybrid)
	if v2 != "/sys/fs/cgroup/unified" || v1["memory"] != "/sys/fs/cgroup/memory" || v1["cpuacct"] == "" {
		t.Errorf("%q, %v", v2, v1)
	}
	v2, _ = parseMounts("29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
	if v2 != "/sys/fs/cgroup" {
		t.Errorf("%q", v2)
	}
	if v2, _ := parseMounts("22 1 0:5 / / rw - ext4 /dev/sda rw\n"); v2 != "" {
		t.Errorf("got %q", v2)
	}
}

func n(v int64) *int64 { return &v }

func TestMissingControllerIsNamed(t *testing.T) {
	h := &Host{Mount: "/sys/fs/cgroup/unified", Parent: "/", mountinfo: func() string { return hybrid }}
	_, err := h.Plan("berth/x", Limits{MemoryMax: n(1 << 20)})
	var missing *NoControllerError
	if !errors.As(err, &missing) || missing.Controller != "memory" || !strings.Contains(missing.Reason, "/sys/fs/cgroup/memory") || missing.Fix == "" {
		t.Errorf("got %v", err)
	}
}

func TestPlan(t *testing.T) {
	h := &Host{Mount: "/cg", Parent: "/", Controllers: []string{"cpu", "cpuset", "io", "memory", "pids"}}
	p, err := h.Plan("berth/x", Limits{MemoryMax: n(64 << 20), MemorySwapMax: n(-1), PidsMax: n(20), CPUQuota: 50000,
		CPUWeight: 100, CPUs: "0-1", IO: []IOLimit{{Major: 8, ReadBPS: 1000}}, Unified: map[string]string{"memory.oom.group": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	p.Print(&b)
	want := `echo +memory +pids +cpu +cpuset +io > /cg/cgroup.subtree_control
echo +memory +pids +cpu +cpuset +io > /cg/berth/cgroup.subtree_control
mkdir -p /cg/berth/x
echo 67108864 > /cg/berth/x/memory.max
[ ! -e /cg/berth/x/memory.swap.max ] || echo max > /cg/berth/x/memory.swap.max
echo 20 > /cg/berth/x/pids.max
echo 50000 100000 > /cg/berth/x/cpu.max
echo 100 > /cg/berth/x/cpu.weight
echo 0-1 > /cg/berth/x/cpuset.cpus
echo 8:0 rbps=1000 > /cg/berth/x/io.max
echo 1 > /cg/berth/x/memory.oom.group
`
	if b.String() != want {
		t.Errorf("got:\n%s", b.String())
	}
	for name, l := range map[string]Limits{
		"period": {CPUPeriod: 5}, "quota": {CPUQuota: 5}, "path": {Unified: map[string]string{"../x.y": "1"}},
	} {
		if _, err := h.Plan("berth/x", l); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The rest wants a kernel that lets us make a cgroup.
func testCgroup(t *testing.T) *os.File {
	t.Helper()
	h, err := Find()
	if os.Geteuid() != 0 || err != nil {
		t.Skipf("needs root and cgroup v2: %v", err)
	}
	p, err := h.Plan("berth-test/"+strings.ToLower(t.Name()), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Apply()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if err := Remove(p.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		unix.Rmdir(h.Dir("berth-test"))
	})
	return f
}

func startIn(t *testing.T, dir *os.File, name string, arg ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(name, arg...)
	c.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFreezeKillRemove(t *testing.T) {
	dir := testCgroup(t)
	c := startIn(t, dir, "sleep", "100")
	if pids, err := Procs(dir.Name()); err != nil || len(pids) != 1 || pids[0] != c.Process.Pid {
		t.Errorf("%v %v", pids, err)
	}
	for _, on := range []bool{true, false} {
		if err := Freeze(dir.Name(), on); err != nil {
			t.Error(err)
		}
	}
	if err := os.Mkdir(dir.Name()+"/nested", 0o755); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- c.Wait() }()
	if err := Remove(dir.Name()); err != nil {
		t.Error(err)
	}
	<-done
	if err := Remove(dir.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("second time: %v", err)
	}
}

func TestDeviceFilterInKernel(t *testing.T) {
	dir := testCgroup(t)
	if err := DeviceFilter(dir, []DeviceRule{{Type: 'a', Major: -1, Minor: -1}, {Allow: true, Type: 'c', Major: 1, Minor: 3, Access: "rw"}}); err != nil {
		t.Fatal(err)
	}
	if err := startIn(t, dir, "sh", "-c", "echo x >/dev/null").Wait(); err != nil {
		t.Errorf("/dev/null: %v", err)
	}
	if err := startIn(t, dir, "sh", "-c", "head -c1 /dev/zero").Wait(); err == nil {
		t.Error("/dev/zero could be read")
	}
}

// Before Linux 5.14 a cgroup has no file cgroup.kill: that is said at once, and
// nobody waits for processes that live on.
func TestKillBeforeLinux514(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/cgroup.events", []byte("populated 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for name, f := range map[string]func(string) error{"Kill": Kill, "Remove": Remove} {
		if err := f(dir); err == nil || !strings.Contains(err.Error(), "5.14") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if time.Since(began) > settle/2 {
		t.Error("waited for the end of what was not killed")
	}
	if err := Kill(dir + "/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cgroup that is gone: %v", err)
	}
}
