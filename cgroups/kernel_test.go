package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// These tests want a kernel with every controller on cgroup v2, and a machine
// whose disk, users and systemd are theirs: integration/vm/cgroups boots one.
func everyController(t *testing.T) *Host {
	t.Helper()
	if !exists("/run/vm-main") {
		t.Skip("needs the VM of integration/vm/cgroups")
	}
	h, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"} {
		if !slices.Contains(h.Controllers, c) {
			t.Fatalf("the VM has no controller %s", c)
		}
	}
	return h
}

// The test binary is also the process that is limited.
func TestMain(m *testing.M) {
	switch job := os.Getenv("CGROUPS_TEST_JOB"); {
	case job == "":
		os.Exit(m.Run())
	case job == "wait":
		os.Stdin.Read(make([]byte, 1))
	case strings.HasPrefix(job, "hog "): // bytes, then waits
		n, _ := strconv.Atoi(job[4:])
		b := make([]byte, n)
		for i := 0; i < n; i += 4096 {
			b[i] = 1
		}
		fmt.Println("full")
		os.Stdin.Read(make([]byte, 1))
		_ = b[n/2]
	case strings.HasPrefix(job, "user "):
		userJob(strings.Fields(job)[1:])
	}
}

// job starts the test binary in a cgroup; it ends with the test.
func job(t *testing.T, dir *os.File, what string, attr ...func(*exec.Cmd)) *exec.Cmd {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "CGROUPS_TEST_JOB="+what, "GOMAXPROCS=1")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if dir != nil {
		c.SysProcAttr.UseCgroupFD, c.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	for _, a := range attr {
		a(c)
	}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Process.Kill(); c.Wait() })
	return c
}

func request(t *testing.T, name, res string) Request {
	t.Helper()
	l, err := FromResources(resources(t, res))
	if err != nil {
		t.Fatal(err)
	}
	return Request{ID: name, Path: "/berth-test/" + name, Limits: l}
}

// apply makes a cgroup that goes with the test.
func apply(t *testing.T, h *Host, r Request) (Manager, *os.File) {
	t.Helper()
	m, err := h.Manager(r)
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Apply(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if err := m.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(m.Dir()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", m.Dir(), err)
		}
		unix.Rmdir(filepath.Dir(m.Dir()))
	})
	return m, f
}

// holds compares files of a cgroup: FILE VALUE; words of VALUE must all be there.
func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for file, value := range want {
		if got := flatValue(dir, file); got != value {
			t.Errorf("%s is %q, want %q", file, got, value)
		}
	}
}

func disk(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/sys/block/vda/dev")
	if err != nil {
		t.Fatalf("the VM has no disk: %v", err)
	}
	return strings.TrimSpace(string(b))
}

func TestKernelTakesEveryLimit(t *testing.T) {
	h := everyController(t)
	dev := disk(t)
	major, minor, _ := strings.Cut(dev, ":")
	at := `"major":` + major + `,"minor":` + minor
	weighed := request(t, "weighed", `{"blockIO":{"weightDevice":[{`+at+`,"weight":20}]}}`)
	if m, err := h.Manager(weighed); err != nil {
		t.Fatal(err)
	} else if _, err := m.Apply(nil); err == nil || !strings.Contains(err.Error(), "nothing weighs on this device") {
		t.Errorf("got %v", err)
	}
	if err := write(h.Mount, "io.cost.qos", dev+" enable=1"); err != nil {
		t.Fatal(err)
	}
	defer write(h.Mount, "io.cost.qos", dev+" enable=0")
	m, _ := apply(t, h, request(t, "all", `{"memory":{"limit":67108864,"swap":100663296,"reservation":33554432},
		"cpu":{"shares":512,"quota":50000,"period":200000,"burst":10000,"cpus":"0-1","mems":"0"},"pids":{"limit":64},
		"blockIO":{"weight":750,"weightDevice":[{`+at+`,"weight":20}],"throttleReadBpsDevice":[{`+at+`,"rate":1048576}],"throttleWriteIOPSDevice":[{`+at+`,"rate":900}]},
		"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
		"unified":{"memory.high":"50331648","memory.oom.group":"1","cgroup.max.depth":"3"}}`))
	holds(t, m.Dir(), map[string]string{
		"memory.max": "67108864", "memory.swap.max": "33554432", "memory.low": "33554432", "memory.high": "50331648", "memory.oom.group": "1",
		"cpu.weight": "59", "cpu.max": "50000 200000", "cpu.max.burst": "10000", "cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "64",
		"io.max": dev + " rbps=1048576 wbps=max riops=max wiops=900", "io.weight": "default 7475\n" + dev + " 102",
		"hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304", "cgroup.max.depth": "3",
		"cgroup.controllers": flatValue(h.Mount, "cgroup.controllers"),
	})
	if err := m.Update(Limits{IO: []IOLimit{{Major: int64(parse(major)), Minor: int64(parse(minor)), ReadBPS: NoLimit, WriteIOPS: NoLimit}}}); err != nil {
		t.Error(err)
	}
	holds(t, m.Dir(), map[string]string{"io.max": ""})
}

func TestKernelExplains(t *testing.T) {
	h := everyController(t)
	for in, want := range map[string]string{
		`{"unified":{"nonsense.max":"1"}}`:                                        `controller "nonsense" is not available`,
		`{"unified":{"memory.nonsense":"1"}}`:                                     "this kernel's controller has no such file",
		`{"hugepageLimits":[{"pageSize":"3MB","limit":0}]}`:                       "no huge pages of this size",
		`{"blockIO":{"throttleReadBpsDevice":[{"major":77,"minor":1,"rate":1}]}}`: "no such block device",
		`{"cpu":{"cpus":"9999"}}`:                                                 "set cpuset.cpus to 9999",
		`{"cpu":{"quota":10000,"period":100000,"burst":20000}}`:                   "a burst must not be greater than the quota",
		`{"rdma":{"none":{"hcaHandles":1}}}`:                                      "rdma.max",
	} {
		m, err := h.Manager(request(t, "bad", in))
		if err == nil {
			_, err = m.Apply(nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", in, err, want)
		}
		if _, err := os.Stat(h.Mount + "/berth-test"); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: a cgroup is left", in)
		}
	}
}

// The order in which values are written to a live cgroup is one that the kernel
// takes, in both directions.
func TestKernelUpdate(t *testing.T) {
	h := everyController(t)
	m, dir := apply(t, h, request(t, "update", `{"memory":{"limit":67108864,"swap":67108864},"cpu":{"quota":20000,"period":100000,"burst":15000},"pids":{"limit":20}}`))
	job(t, dir, "wait")
	old := resources(t, `{"memory":{"limit":67108864,"swap":67108864}}`)
	for _, c := range []struct {
		update string
		want   map[string]string
	}{
		{`{"cpu":{"quota":80000,"burst":70000}}`, map[string]string{"cpu.max": "80000 100000", "cpu.max.burst": "70000", "pids.max": "20"}},
		{`{"cpu":{"quota":10000,"burst":5000}}`, map[string]string{"cpu.max": "10000 100000", "cpu.max.burst": "5000"}},
		{`{"cpu":{"period":50000}}`, map[string]string{"cpu.max": "10000 50000"}},
		{`{"cpu":{"quota":-1,"burst":0}}`, map[string]string{"cpu.max": "max 50000", "cpu.max.burst": "0"}},
		{`{"memory":{"limit":134217728,"swap":268435456}}`, map[string]string{"memory.max": "134217728", "memory.swap.max": "134217728"}},
		{`{"memory":{"limit":33554432,"swap":50331648}}`, map[string]string{"memory.max": "33554432", "memory.swap.max": "16777216"}},
		{`{"memory":{"limit":-1}}`, map[string]string{"memory.max": "max", "memory.swap.max": "max"}},
		{`{"pids":{"limit":0}}`, map[string]string{"pids.max": "1"}},
		{`{"pids":{"limit":-1}}`, map[string]string{"pids.max": "max"}},
		{`{"cpu":{"idle":1}}`, map[string]string{"cpu.idle": "1"}},
		{`{"cpu":{"idle":0,"shares":1024}}`, map[string]string{"cpu.idle": "0", "cpu.weight": "100"}},
		{`{"cpu":{"cpus":"1"},"unified":{"memory.high":"100003840"}}`, map[string]string{"cpuset.cpus": "1", "memory.high": "100003840"}},
	} {
		l, merged, err := Changes(old, resources(t, c.update))
		if err == nil {
			err = m.Update(l)
		}
		if err != nil {
			t.Fatalf("%s: %v", c.update, err)
		}
		old = merged
		holds(t, m.Dir(), c.want)
	}
	for in, want := range map[string]string{
		`{"memory":{"limit":4096,"checkBeforeUpdate":true}}`: "rejecting memory limit 4096 <= usage",
		`{"cpu":{"idle":2}}`: "set cpu.idle to 2: write",
	} {
		l, err := FromResources(resources(t, in))
		if err == nil {
			err = m.Update(l)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
	if err := m.Update(Limits{CPUIdle: n(1)}); err != nil {
		t.Error(err)
	}
	if err := m.Update(Limits{CPUWeight: 50}); err == nil || !strings.Contains(err.Error(), "the cgroup is idle") {
		t.Errorf("got %v", err)
	}
}

func TestKernelKillsAndTells(t *testing.T) {
	h := everyController(t)
	m, dir := apply(t, h, request(t, "oom", `{"memory":{"limit":33554432,"swap":33554432}}`))
	job(t, dir, "wait") // so that the cgroup is not empty after the kill
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	told := make(chan struct{}, 9)
	ended := make(chan error, 1)
	go func() { ended <- WatchOOM(ctx, m.Dir(), func() { told <- struct{}{} }) }()
	hog := job(t, dir, "hog 200000000")
	if err := hog.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the hog: %v", err)
	}
	select {
	case <-told:
	case <-ctx.Done():
		t.Error("not told of the kill")
	}
	s, err := Read(m.Dir())
	if err != nil || s.MemoryEvents["oom_kill"] != 1 || s.MemoryPeak < 30<<20 || s.MemoryPressure == nil || s.CPUPressure == nil || s.IOPressure == nil {
		t.Errorf("%+v %v", s, err)
	}
	if err := Kill(m.Dir()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the watch of an empty cgroup ended with %v", err)
	}
}

func TestKernelStats(t *testing.T) {
	h := everyController(t)
	dev := disk(t)
	m, dir := apply(t, h, request(t, "stats", `{"memory":{"limit":134217728},"cpu":{"quota":5000},"pids":{"limit":9},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}`))
	c := startIn(t, dir, "dd", "if=/dev/vda", "of=/dev/null", "bs=1M", "count=4", "iflag=direct")
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	job(t, dir, "hog 8000000")
	time.Sleep(2 * time.Second)
	s, err := Read(m.Dir())
	if err != nil {
		t.Fatal(err)
	}
	o := s.OCI()
	if o.CPU.Usage.Total == 0 || o.CPU.Throttling.Periods == 0 || o.Memory.Usage.Limit != 134217728 || o.Memory.Usage.Usage == 0 || o.Memory.Raw["anon"] == 0 ||
		o.Pids.Limit != 9 || o.Pids.Current == 0 || o.Memory.Swap.Limit != NoLimit || o.CPU.PSI == nil || o.Blkio.PSI == nil || o.CPU.PSI.Some.Total == 0 {
		t.Errorf("%+v", o)
	}
	if _, ok := o.Hugetlb["2MB"]; !ok || len(o.Hugetlb) < 2 {
		t.Errorf("hugetlb %v", o.Hugetlb)
	}
	read := uint64(0)
	for _, e := range o.Blkio.IoServiceBytesRecursive {
		if fmt.Sprintf("%d:%d", e.Major, e.Minor) == dev && e.Op == "Read" {
			read = e.Value
		}
	}
	if read < 4<<20 {
		t.Errorf("read %d bytes of %s: %+v", read, dev, o.Blkio)
	}
}

// BFQ weighs by its own file, which is there when its module is.
func TestKernelBFQ(t *testing.T) {
	h := everyController(t)
	dev := disk(t)
	if out, err := exec.Command("busybox", "insmod", "/run/modules/bfq.ko").CombinedOutput(); err != nil && !strings.Contains(string(out), "exists") {
		t.Fatalf("insmod bfq: %s", out)
	}
	if err := os.WriteFile("/sys/block/vda/queue/scheduler", []byte("bfq"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile("/sys/block/vda/queue/scheduler", []byte("none"), 0)
	major, minor, _ := strings.Cut(dev, ":")
	m, _ := apply(t, h, request(t, "bfq", `{"blockIO":{"weight":333,"weightDevice":[{"major":`+major+`,"minor":`+minor+`,"weight":444}]}}`))
	holds(t, m.Dir(), map[string]string{"io.bfq.weight": "default 333\n" + dev + " 444", "io.weight": "default 100"})
}

// Where OpenExec says that a cgroup takes no process, the kernel says EBUSY.
func TestKernelExec(t *testing.T) {
	h := everyController(t)
	m, dir := apply(t, h, request(t, "exec", `{}`))
	first := job(t, dir, "wait")
	sub := filepath.Join(m.Dir(), "sub")
	open := func(name, want string) *os.File {
		t.Helper()
		f, err := OpenExec(m.Dir(), name, first.Process.Pid)
		if err != nil || f.Name() != want {
			t.Fatalf("%v, want %s: %v", f, want, err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	open("", m.Dir())
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.Attach(first.Process.Pid, "sub"); err != nil {
		t.Fatal(err)
	}
	c := job(t, open("", m.Dir()), "wait") // the first one has moved, but this is no inner node yet
	if err := m.Attach(c.Process.Pid, "sub"); err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{"+pids", "+memory"} {
		if err := write(m.Dir(), "cgroup.subtree_control", on); err != nil {
			t.Fatal(err)
		}
		busy := exec.Command("true")
		busy.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		if err := busy.Run(); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: the kernel says %v", on, err)
		}
		c = job(t, open("", sub), "wait")
		if got := unified(flatValue("/proc/"+strconv.Itoa(c.Process.Pid), "cgroup")); got != "/berth-test/exec/sub" {
			t.Errorf("it began in %s", got)
		}
	}
	if err := m.Attach(c.Process.Pid, ""); err == nil || !strings.Contains(err.Error(), "cannot both hold processes") {
		t.Errorf("got %v", err)
	}
	open("sub", sub)
	for _, bad := range []string{"nope", "../update", ".."} {
		if f, err := OpenExec(m.Dir(), bad, first.Process.Pid); err == nil {
			t.Errorf("%s: opened %s", bad, f.Name())
		}
	}
}

func TestKernelPrivate(t *testing.T) {
	h := everyController(t)
	m, dir := apply(t, h, request(t, "private", `{}`))
	j := job(t, dir, "wait")
	if _, err := m.Apply(nil); err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty: 1 process(es) found") {
		t.Errorf("got %v", err)
	}
	if on, err := Frozen(m.Dir()); on || err != nil {
		t.Errorf("frozen %v %v", on, err)
	}
	j.Process.Kill()
	j.Wait()
	if err := Freeze(m.Dir(), true); err != nil {
		t.Fatal(err)
	}
	if on, err := Frozen(m.Dir()); !on || err != nil {
		t.Errorf("frozen %v %v", on, err)
	}
	if _, err := m.Apply(nil); err == nil || !strings.Contains(err.Error(), "container's cgroup unexpectedly frozen") {
		t.Errorf("got %v", err)
	}
	if on, err := Frozen("/nonexistent"); on || err != nil {
		t.Errorf("frozen %v %v", on, err)
	}
}

// Below a threaded cgroup only controllers that count by thread are to be had.
func TestKernelThreaded(t *testing.T) {
	h := everyController(t)
	apply(t, h, request(t, "thread/keep", `{}`))
	parent := h.Mount + "/berth-test/thread"
	if err := write(parent, "cgroup.subtree_control", "-memory -io -hugetlb -rdma -misc -cpu -cpuset -pids"); err != nil {
		t.Fatal(err)
	}
	if err := write(parent+"/keep", "cgroup.type", "threaded"); err != nil {
		t.Fatal(err)
	}
	m, e := h.Manager(request(t, "thread/x", `{"memory":{"limit":33554432}}`))
	if e != nil {
		t.Fatal(e)
	}
	var missing *NoControllerError
	if _, err := m.Apply(nil); !errors.As(err, &missing) || missing.Controller != "memory" || !strings.Contains(err.Error(), "threaded") {
		t.Errorf("got %v", err)
	}
	m, dir := apply(t, h, request(t, "thread/y", `{"pids":{"limit":5}}`))
	holds(t, m.Dir(), map[string]string{"pids.max": "5", "cgroup.type": "threaded"})
	j := job(t, dir, "wait")
	if pids, err := Procs(m.Dir()); err != nil || !slices.Contains(pids, j.Process.Pid) {
		t.Errorf("%v %v", pids, err)
	}
	if err := m.Remove(); err != nil { // cgroup.kill does not work there
		t.Error(err)
	}
	if err := j.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process of a removed cgroup: %v", err)
	}
}

func TestKernelDeviceFilterIsReplaced(t *testing.T) {
	h := everyController(t)
	m, dir := apply(t, h, request(t, "devices", `{}`))
	programs := func() (ids []uint32) {
		t.Helper()
		fd, err := attachedFilter(dir)
		if err != nil || fd < 0 {
			t.Fatalf("no filter: %v", err)
		}
		defer unix.Close(fd)
		i, err := programInfo(fd)
		if err != nil {
			t.Fatal(err)
		}
		return []uint32{i.id}
	}
	can := func(dev string) bool { return startIn(t, dir, "head", "-c1", dev).Wait() == nil }
	rules := func(res string) Limits {
		l, err := FromResources(resources(t, res))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	deny := rules(`{"devices":[{"allow":false,"access":"rwm"}]}`)
	if err := DeviceFilter(dir, deny.Devices); err != nil {
		t.Fatal(err)
	}
	if !can("/dev/zero") || can("/dev/vda") {
		t.Error("the first filter is not in force")
	}
	before := programs()
	if err := m.Update(deny); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, programs()); d != "" {
		t.Error("the same rules made a new filter", d)
	}
	if err := m.Update(rules(`{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","access":"rwm"}]}`)); err != nil {
		t.Fatal(err)
	}
	if !can("/dev/zero") || !can("/dev/vda") {
		t.Error("the second filter is not in force: programs add up, so one must have gone")
	}
	if cmp.Equal(before, programs()) {
		t.Error("other rules kept the old filter")
	}
}
