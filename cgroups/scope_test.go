package cgroups

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests want systemd as process 1, as integration/vm/cgroups boots it.
func systemd(t *testing.T) *Host {
	t.Helper()
	if flatValue("/proc/1", "comm") != "systemd" || !exists("/run/systemd/system") {
		t.Skip("needs systemd as process 1 (integration/vm/cgroups has it)")
	}
	return everyController(t)
}

// show are properties of a unit in systemctl's words.
func show(t *testing.T, unit string, names ...string) map[string]string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "-p", strings.Join(names, ","), unit).CombinedOutput()
	if err != nil {
		t.Fatalf("systemctl show %s: %v: %s", unit, err, out)
	}
	m := map[string]string{}
	for _, line := range strings.Split(string(out), "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			m[k] = v
		}
	}
	return m
}

func shows(t *testing.T, unit string, want map[string]string) {
	t.Helper()
	var names []string
	for k := range want {
		names = append(names, k)
	}
	got := show(t, unit, names...)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
}

// scopeOf makes a scope and a process in it, as a runtime does: the placeholder
// ends when the process has begun.
func scopeOf(t *testing.T, h *Host, name, res string, annotations map[string]string) (Manager, *os.File) {
	t.Helper()
	l, err := FromResources(resources(t, res))
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Manager(Request{ID: name, Path: "berth-vm.slice:test:" + name, Limits: l, Systemd: true, Annotations: annotations})
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Apply(placeholder(t))
	if err != nil {
		t.Fatal(err)
	}
	job(t, f, "wait")
	endPlaceholder(t)
	t.Cleanup(func() {
		f.Close()
		if err := m.Remove(); err != nil {
			t.Error(err)
		}
		shows(t, m.State().Unit, map[string]string{"LoadState": "not-found"})
		if _, err := os.Stat(m.Dir()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", m.Dir(), err)
		}
		if err := m.Remove(); err != nil {
			t.Errorf("the second time: %v", err)
		}
	})
	return m, f
}

var held *exec.Cmd

func placeholder(t *testing.T) Placeholder {
	return func() (int, error) {
		held = job(t, nil, "wait")
		return held.Process.Pid, nil
	}
}

func endPlaceholder(t *testing.T) {
	t.Helper()
	if held == nil {
		t.Fatal("no placeholder was asked for")
	}
	held.Process.Kill()
	held.Wait()
	held = nil
}

func TestSystemdScope(t *testing.T) {
	h := systemd(t)
	m, dir := scopeOf(t, h, "all", `{"memory":{"limit":67108864,"swap":100663296,"reservation":33554432},
		"cpu":{"shares":512,"quota":50000,"period":200000,"burst":10000,"cpus":"0-1","mems":"0"},"pids":{"limit":64},"blockIO":{"weight":750},
		"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"unified":{"memory.high":"50331648","memory.oom.group":"1"},
		"devices":[{"allow":false,"access":"rwm"}]}`,
		map[string]string{annotation + "TimeoutStopSec": "7", annotation + "CollectMode": "'inactive-or-failed'"})
	if want := h.Mount + "/berth.slice/berth-vm.slice/test-all.scope"; m.Dir() != want || m.State().Unit != "test-all.scope" {
		t.Errorf("%+v", m.State())
	}
	l, err := FromResources(resources(t, `{"devices":[{"allow":false,"access":"rwm"}]}`))
	if err == nil {
		err = DeviceFilter(dir, l.Devices)
	}
	if err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]string, files map[string]string) {
		t.Helper()
		shows(t, "test-all.scope", want)
		holds(t, m.Dir(), files)
		if startIn(t, dir, "head", "-c1", "/dev/vda").Wait() == nil {
			t.Error("the device filter is not in force")
		}
	}
	files := map[string]string{"memory.max": "67108864", "memory.swap.max": "33554432", "memory.low": "33554432", "memory.high": "50331648",
		"cpu.weight": "59", "cpu.max": "50000 200000", "cpu.max.burst": "10000", "cpuset.cpus": "0-1", "pids.max": "64",
		"hugetlb.2MB.max": "4194304", "cgroup.controllers": flatValue(h.Mount, "cgroup.controllers")}
	if b, err := dialBus(""); err != nil {
		t.Error(err)
	} else {
		if v := b.version(); v >= oomVersion {
			files["memory.oom.group"] = "1"
		} else if v == 0 {
			t.Error("systemd has no version")
		}
		b.close()
	}
	check(map[string]string{"ActiveState": "active", "Slice": "berth-vm.slice", "Delegate": "yes", "DefaultDependencies": "no", "Description": "berth container all",
		"MemoryMax": "67108864", "MemorySwapMax": "33554432", "MemoryLow": "33554432", "MemoryHigh": "50331648", "CPUWeight": "59", "CPUQuotaPerSecUSec": "250ms",
		"CPUQuotaPeriodUSec": "200ms", "TasksMax": "64", "AllowedCPUs": "0-1", "AllowedMemoryNodes": "0", "IOWeight": "7475",
		"TimeoutStopUSec": "7s", "CollectMode": "inactive-or-failed", "MemoryAccounting": "yes", "TasksAccounting": "yes"}, files)

	// Who updates knows only the state file.
	j, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(j, &s); err != nil {
		t.Fatal(err)
	}
	again := s.Manager()
	l, _, err = Changes(nil, resources(t, `{"memory":{"limit":33554432},"cpu":{"quota":60000,"period":90000,"burst":0,"cpus":"1"},"pids":{"limit":-1},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}`))
	if err == nil {
		err = again.Update(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	files["memory.max"], files["cpu.max"], files["cpuset.cpus"], files["pids.max"], files["hugetlb.2MB.max"] = "33554432", "60300 90000", "1", "max", "0"
	files["cpu.max.burst"] = "0"
	props := map[string]string{"MemoryMax": "33554432", "CPUQuotaPerSecUSec": "670ms", "CPUQuotaPeriodUSec": "90ms", "AllowedCPUs": "1", "TasksMax": "infinity", "MemoryLow": "33554432"}
	check(props, files)

	// systemd puts its own values on everything again.
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(props, files)
}

func TestSystemdRoundsQuotas(t *testing.T) {
	h := systemd(t)
	m, _ := scopeOf(t, h, "quota", `{"cpu":{"quota":600000,"period":900000}}`, nil)
	holds(t, m.Dir(), map[string]string{"cpu.max": "603000 900000"})
	shows(t, "test-quota.scope", map[string]string{"CPUQuotaPerSecUSec": "670ms"})
	if err := m.Update(Limits{CPUPeriod: 100000}); err != nil {
		t.Fatal(err)
	}
	holds(t, m.Dir(), map[string]string{"cpu.max": "603000 100000"})
	if err := m.Update(Limits{CPUQuota: 50000}); err != nil {
		t.Fatal(err)
	}
	holds(t, m.Dir(), map[string]string{"cpu.max": "50000 100000"})
	shows(t, "test-quota.scope", map[string]string{"CPUQuotaPerSecUSec": "500ms"})
	if err := m.Update(Limits{CPUQuota: -1}); err != nil {
		t.Fatal(err)
	}
	holds(t, m.Dir(), map[string]string{"cpu.max": "max 100000"})
	shows(t, "test-quota.scope", map[string]string{"CPUQuotaPerSecUSec": "infinity"})
}

// systemd resets cpu.idle when it sets a weight; Debian 12 has version 252,
// which knows both.
func TestSystemdIdle(t *testing.T) {
	h := systemd(t)
	m, _ := scopeOf(t, h, "idle", `{"cpu":{"idle":1}}`, nil)
	holds(t, m.Dir(), map[string]string{"cpu.idle": "1"})
	if err := m.Update(Limits{CPUWeight: 50}); err != nil {
		t.Fatal(err)
	}
	holds(t, m.Dir(), map[string]string{"cpu.idle": "0", "cpu.weight": "50"})
	if err := m.Update(Limits{CPUIdle: n(1)}); err != nil {
		t.Fatal(err)
	}
	holds(t, m.Dir(), map[string]string{"cpu.idle": "1"})
}

// What the kernel refuses systemd only logs; we do not.
func TestSystemdRefuses(t *testing.T) {
	h := systemd(t)
	for res, want := range map[string]string{
		`{"cpu":{"cpus":"77"}}`:               "set cpuset.cpus to 77",
		`{"unified":{"memory.nonsense":"1"}}`: "this kernel's controller has no such file",
		`{"unified":{"cpu.weight":"0x7"}}`:    "as a property of systemd",
		`{"unified":{"cpu.weight":"70000"}}`:  "start the systemd unit test-bad.scope: Value specified in CPUWeight is out of range",
	} {
		l, err := FromResources(resources(t, res))
		if err != nil {
			t.Fatal(err)
		}
		m, err := h.Manager(Request{ID: "bad", Path: "berth-vm.slice:test:bad", Limits: l, Systemd: true})
		if err == nil {
			_, err = m.Apply(placeholder(t))
			endPlaceholder(t)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", res, err, want)
		}
		shows(t, "test-bad.scope", map[string]string{"LoadState": "not-found"})
	}
	_, err := h.Manager(Request{ID: "bad", Systemd: true, Annotations: map[string]string{annotation + "NoSuchThing": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := h.Manager(Request{ID: "bad", Systemd: true, Annotations: map[string]string{annotation + "NoSuchThing": "true"}})
	if _, err = m.Apply(placeholder(t)); err == nil || !strings.Contains(err.Error(), "NoSuchThing") {
		t.Errorf("got %v", err)
	}
	endPlaceholder(t)
}

// A unit that failed keeps its name until somebody clears it away.
func TestSystemdLeftover(t *testing.T) {
	h := systemd(t)
	l := Limits{}
	m, err := h.Manager(Request{ID: "left", Path: "berth-vm.slice:test:left", Limits: l, Systemd: true, Annotations: map[string]string{annotation + "RuntimeMaxUSec": "uint64 100000"}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Apply(placeholder(t))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 100 {
		if show(t, "test-left.scope", "ActiveState")["ActiveState"] == "failed" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	shows(t, "test-left.scope", map[string]string{"ActiveState": "failed"})
	held = nil // it was ended with the scope
	m, dir := scopeOf(t, h, "left", `{"memory":{"limit":33554432,"swap":33554432}}`, nil)
	shows(t, "test-left.scope", map[string]string{"ActiveState": "active"})
	if _, err := m.Apply(placeholder(t)); err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty: 1 process(es) found") {
		t.Errorf("got %v", err)
	}
	if held != nil {
		t.Error("a placeholder was made for nothing")
	}
	// One that fails for want of memory is cleared away by Remove.
	if err := job(t, dir, "hog 200000000").Wait(); err == nil {
		t.Error("the hog was not killed")
	}
}

// Without a bus there is still systemd's own socket.
func TestSystemdDirect(t *testing.T) {
	h := systemd(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
	m, dir := scopeOf(t, h, "direct", `{"pids":{"limit":9}}`, nil)
	shows(t, "test-direct.scope", map[string]string{"TasksMax": "9"})
	if err := m.Update(Limits{PidsMax: n(8)}); err != nil {
		t.Fatal(err)
	}
	shows(t, "test-direct.scope", map[string]string{"TasksMax": "8"})
	out := job(t, nil, "wait")
	if err := os.Mkdir(dir.Name()+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.Attach(out.Process.Pid, "sub"); err != nil {
		t.Fatal(err)
	}
	if pids, err := Procs(dir.Name() + "/sub"); err != nil || len(pids) != 1 || pids[0] != out.Process.Pid {
		t.Errorf("%v %v", pids, err)
	}
}

// An unprivileged user's containers are scopes of his own systemd. He is
// elsewhere, as after su: no process of his may be cloned across the border of
// the delegation, so that systemd moves it.
func TestSystemdUser(t *testing.T) {
	systemd(t)
	for file, line := range map[string]string{"/etc/passwd": "vm:*:4711:4711::/tmp:/bin/sh\n", "/etc/group": "vm:*:4711:\n"} {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(line)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("systemctl", "start", "user@4711.service").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !exists("/run/user/4711/systemd/private") {
		t.Fatal("the user's systemd has no socket")
	}
	bus := exists("/run/user/4711/bus")
	if !bus {
		t.Log("no dbus-user-session: only systemd's own socket is tried")
	}
	base := "/sys/fs/cgroup/user.slice/user-4711.slice/user@4711.service/"
	for _, c := range []struct {
		name   string
		env    []string
		userns bool
		slice  string
		at     string
		skip   bool
	}{
		{"bus", []string{"XDG_RUNTIME_DIR=/run/user/4711"}, false, "", "user.slice/berth-mine.scope", !bus},
		{"address", []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/4711/bus"}, false, "a-b.slice:x:mine", "a.slice/a-b.slice/x-mine.scope", !bus},
		{"direct", []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/4711/systemd/private"}, false, "", "user.slice/berth-mine.scope", false},
		{"namespace", []string{"XDG_RUNTIME_DIR=/run/user/4711"}, true, "", "user.slice/berth-mine.scope", !bus},
	} {
		if c.skip {
			continue
		}
		cmd := exec.Command("/proc/self/exe")
		slice := c.slice
		if slice == "" {
			slice = "-"
		}
		cmd.Env = append(append(os.Environ(), c.env...), "CGROUPS_TEST_JOB=user "+slice+` {"pids":{"limit":50},"memory":{"limit":67108864}} systemd`)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		asUser(cmd)
		if c.userns {
			cmd.SysProcAttr.Credential = nil
			cmd = exec.Command("setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups", "unshare", "-Ur", "/proc/self/exe")
			exe, _ := os.Executable()
			cmd.Args[len(cmd.Args)-1] = exe
			cmd.Env = append(append(os.Environ(), c.env...), "CGROUPS_TEST_JOB=user "+slice+` {"pids":{"limit":50},"memory":{"limit":67108864}} systemd`)
		}
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		var a answer
		if err == nil {
			err = json.Unmarshal(out, &a)
		}
		if err != nil {
			t.Errorf("%s: %v: %s", c.name, err, out)
			continue
		}
		if a.Err != "" || a.Dir != base+c.at || a.Files["pids.max"] != "50" || a.Files["memory.max"] != "67108864" || a.Files["updated pids.max"] != "40" ||
			a.Files["cgroup"] != strings.TrimPrefix(base, "/sys/fs/cgroup")+c.at || !strings.Contains(a.Files["clone"], "permission denied") || a.Sub != "" || a.Remove != "" {
			t.Errorf("%s: %+v", c.name, a)
		}
		if exists(base + c.at) {
			t.Errorf("%s: %s is left", c.name, c.at)
		}
	}
}
