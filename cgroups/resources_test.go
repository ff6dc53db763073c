package cgroups

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func resources(t *testing.T, s string) *specs.LinuxResources {
	t.Helper()
	r := resourcesOf(s)
	if r == nil {
		t.Fatalf("no resources: %s", s)
	}
	return r
}

func resourcesOf(s string) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	if json.Unmarshal([]byte(s), r) != nil {
		return nil
	}
	return r
}

// lines are the writes of a limit, one each, and the controllers they need.
func lines(l Limits) string {
	w, need, err := l.writes()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, v := range w {
		fmt.Fprintf(&b, "%s=%s", v.File, v.Value)
		if v.Or != nil {
			fmt.Fprintf(&b, " or %s=%s", v.Or.File, v.Or.Value)
		}
		if v.Optional {
			b.WriteString(" if there")
		}
		b.WriteString("; ")
	}
	return b.String() + "need " + strings.Join(need, " ")
}

func TestFromResources(t *testing.T) {
	for in, want := range map[string]string{
		`{}`: "need ",
		`{"memory":{"limit":1000,"reservation":500}}`:                                   "memory.max=1000; memory.low=500; need memory",
		`{"memory":{"limit":1000,"swap":1500}}`:                                         "memory.max=1000; memory.swap.max=500; need memory",
		`{"memory":{"limit":1000,"swap":1000}}`:                                         "memory.max=1000; memory.swap.max=0 if there; need memory",
		`{"memory":{"limit":1000,"swap":-1}}`:                                           "memory.max=1000; memory.swap.max=max if there; need memory",
		`{"memory":{"limit":-1}}`:                                                       "memory.max=max; memory.swap.max=max if there; need memory",
		`{"memory":{"limit":-1,"swap":1000}}`:                                           "memory.max=max; memory.swap.max=1000; need memory",
		`{"memory":{"swap":-1}}`:                                                        "memory.swap.max=max if there; need memory",
		`{"memory":{"limit":0,"swap":0,"reservation":0,"swappiness":null}}`:             "need ",
		`{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}`:                 "need ",
		`{"cpu":{"shares":1024}}`:                                                       "cpu.weight=100; need cpu",
		`{"cpu":{"quota":50000}}`:                                                       "cpu.max=50000 100000; need cpu",
		`{"cpu":{"period":50000}}`:                                                      "cpu.max=max 50000; need cpu",
		`{"cpu":{"quota":-1,"period":50000}}`:                                           "cpu.max=max 50000; need cpu",
		`{"cpu":{"quota":50000,"period":100000,"burst":0}}`:                             "cpu.max=50000 100000; cpu.max.burst=0; need cpu",
		`{"cpu":{"idle":0,"shares":2}}`:                                                 "cpu.idle=0; cpu.weight=1; need cpu",
		`{"cpu":{"cpus":"0-1","mems":"0"}}`:                                             "cpuset.cpus=0-1; cpuset.mems=0; need cpuset",
		`{"pids":{}}`:                                                                   "need ",
		`{"pids":{"limit":0}}`:                                                          "pids.max=1; need pids",
		`{"pids":{"limit":-1}}`:                                                         "pids.max=max; need pids",
		`{"pids":{"limit":7}}`:                                                          "pids.max=7; need pids",
		`{"blockIO":{"weight":750}}`:                                                    "io.bfq.weight=750 or io.weight=7475; need io",
		`{"blockIO":{"weight":0}}`:                                                      "need ",
		`{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":10}]}}`:              "io.bfq.weight=8:0 10 or io.weight=8:0 1; need io",
		`{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}`:                             "hugetlb.2MB.max=0; hugetlb.2MB.rsvd.max=0 if there; need hugetlb",
		`{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":4},"a":{"hcaObjects":1}}}`:      "rdma.max=a hca_object=1; rdma.max=mlx5_1 hca_handle=3 hca_object=4; need rdma",
		`{"unified":{"memory.high":"1000","cgroup.max.depth":"3","io.max":"a\nb\n"}}`:   "cgroup.max.depth=3; io.max=a; io.max=b; memory.high=1000; need io memory",
		`{"memory":{"limit":1000},"unified":{"memory.max":"2000"}}`:                     "memory.max=2000; need memory",
		`{"network":{"classID":0,"priorities":[]},"memory":{"disableOOMKiller":false}}`: "need ",
		`{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":16,"rate":5},{"major":8,"minor":0,"rate":2}],
			"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":9}],"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}]}}`: "io.max=8:0 rbps=2 wbps=max wiops=9; io.max=8:16 rbps=5; need io",
	} {
		l, err := FromResources(resources(t, in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := lines(l); got != want {
			t.Errorf("%s:\n got %s\nwant %s", in, got, want)
		}
		if len(l.Ignored) > 0 {
			t.Errorf("%s: ignored %q", in, l.Ignored)
		}
	}
}

func TestFromResourcesRefuses(t *testing.T) {
	for in, want := range map[string]string{
		`{"memory":{"swap":1000}}`:                                     "unable to set swap limit without memory limit",
		`{"memory":{"limit":1000,"swap":500}}`:                         "memory+swap limit should be >= memory limit",
		`{"memory":{"limit":-2}}`:                                      "memory.limit is -2",
		`{"cpu":{"period":100}}`:                                       "1000 to 1000000",
		`{"cpu":{"quota":100}}`:                                        "at least 1000",
		`{"blockIO":{"weight":5}}`:                                     "10 to 1000",
		`{"unified":{"../memory.max":"1"}}`:                            "no slashes",
		`{"unified":{"memory":"1"}}`:                                   "CONTROLLER.PARAMETER",
		`{"unified":{".max":"1"}}`:                                     "CONTROLLER.PARAMETER",
		`{"hugepageLimits":[{"pageSize":"2MB/../x","limit":1}]}`:       "huge page",
		`{"rdma":{"a b":{"hcaHandles":3}}}`:                            "RDMA",
		`{"devices":[{"allow":true}]}`:                                 "device access at 0 field cannot be empty",
		`{"devices":[{"allow":true,"type":"p","access":"r"}]}`:         `invalid cgroup device type "p"`,
		`{"devices":[{"allow":true,"type":"c","access":"rx"}]}`:        `unknown access 'x'`,
		`{"devices":[{"allow":true,"major":-7,"access":"r"}]}`:         "no device -7",
		`{"devices":[{"allow":true,"minor":4294967296,"access":"r"}]}`: "no device -1:4294967296",
	} {
		if _, err := FromResources(resources(t, in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", in, err)
		}
	}
}

// What only cgroup v1 has is named, never silently dropped.
func TestIgnored(t *testing.T) {
	l, err := FromResources(resources(t, `{"network":{"classID":5,"priorities":[{"name":"eth0","priority":1}]},
		"memory":{"kernel":5,"kernelTCP":5,"swappiness":0,"disableOOMKiller":true},
		"cpu":{"realtimeRuntime":5,"realtimePeriod":6,"idle":1,"shares":512},
		"blockIO":{"leafWeight":5,"weightDevice":[{"major":1,"minor":1,"leafWeight":1}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(l.Ignored, "\n")
	for _, want := range []string{"network.classID", "network.priorities", "memory.kernel ", "memory.kernelTCP", "memory.swappiness",
		"memory.disableOOMKiller", "cpu.realtimeRuntime", "blockIO.leafWeight", "unable to apply both"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not in\n%s", want, all)
		}
	}
	if got := lines(l); got != "cpu.idle=1; need cpu" {
		t.Error(got)
	}
	l, err = FromResources(resources(t, `{"unified":{"cpu.idle":"1","cpu.weight":"8"}}`))
	if err != nil || len(l.Ignored) != 1 || lines(l) != "cpu.idle=1; need cpu" {
		t.Errorf("%q %q %v", l.Ignored, lines(l), err)
	}
}

// From the table of opencontainers/cgroups and the awk line of runc's suite.
func TestCPUWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 3: 2, 100: 17, 102: 17, 200: 29, 512: 59, 1024: 100, 3333: 256, 262143: 10000, 262144: 10000, 1 << 40: 10000} {
		if got := CPUWeight(shares); got != want {
			t.Errorf("%d shares weigh %d, want %d", shares, got, want)
		}
	}
}

func TestDeviceRuleList(t *testing.T) {
	l, err := FromResources(resources(t, `{"devices":[{"allow":false,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":11,"access":"rwa"},
		{"allow":true,"type":"b","major":8,"access":"r"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := append([]DeviceRule{{false, 'a', -1, -1, "rwm"}, {false, 'c', 1, 11, "rwa"}, {true, 'b', 8, -1, "r"}}, AllowedDevices()...)
	if d := cmp.Diff(want, l.Devices); d != "" {
		t.Error(d)
	}
	l, err = FromResources(nil)
	if err != nil || !cmp.Equal(l.Devices, AllowedDevices()) || l.needsController() {
		t.Errorf("%+v %v", l, err)
	}
}

func TestChanges(t *testing.T) {
	for _, c := range []struct{ old, update, want string }{
		{`{}`, `{"memory":{"limit":2000}}`, "memory.max=2000; need memory"},
		{`{"memory":{"limit":1000,"swap":1500}}`, `{"memory":{"limit":1200}}`, "memory.max=1200; memory.swap.max=300; need memory"},
		{`{"memory":{"limit":1000}}`, `{"memory":{"swap":1500}}`, "memory.swap.max=500; need memory"},
		{`{"memory":{"limit":1000,"swap":1500}}`, `{"memory":{"limit":-1}}`, "memory.max=max; memory.swap.max=max if there; need memory"},
		{`{"memory":{"limit":1000,"swap":1500}}`, `{"memory":{"reservation":5}}`, "memory.low=5; need memory"},
		{`{"memory":{"limit":1000,"swap":1500}}`, `{"memory":{"limit":1600}}`, "memory+swap limit should be >= memory limit"},
		{`{"cpu":{"shares":1024},"pids":{"limit":5}}`, `{"cpu":{"quota":5000}}`, "cpu.max=5000 100000; need cpu"},
		{`{"cpu":{"shares":1024,"idle":0}}`, `{"cpu":{"idle":1}}`, "cpu.idle=1; need cpu"},
		{`{"unified":{"pids.max":"5"}}`, `{"unified":{"memory.high":"6"}}`, "memory.high=6; need memory"},
		{`{"devices":[{"allow":true,"access":"rwm"}]}`, `{"pids":{"limit":3}}`, "pids.max=3; need pids"},
	} {
		l, merged, err := Changes(resources(t, c.old), resources(t, c.update))
		got := lines(l)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s + %s:\n got %s\nwant %s", c.old, c.update, got, c.want)
		}
		if err == nil && (merged == nil || len(l.Devices) > 0) {
			t.Errorf("%s: %v, %d devices", c.update, merged, len(l.Devices))
		}
	}
	_, merged, err := Changes(resources(t, `{"memory":{"limit":1000,"reservation":7},"cpu":{"quota":7000,"cpus":"0"},"pids":{"limit":4},
		"blockIO":{"weight":20,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":1,"rate":1}]},"unified":{"a.b":"c"},"rdma":{"x":{"hcaHandles":1}}}`),
		resources(t, `{"memory":{"limit":2000},"cpu":{"period":9000,"mems":"0"},"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":2}]},
		"unified":{"d.e":"f"},"hugepageLimits":[{"pageSize":"2MB","limit":3}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := resources(t, `{"memory":{"limit":2000,"reservation":7},"cpu":{"quota":7000,"period":9000,"cpus":"0","mems":"0"},"pids":{"limit":4},
		"blockIO":{"weight":20,"throttleReadBpsDevice":[{"major":8,"minor":1,"rate":1},{"major":8,"minor":0,"rate":2}]},"unified":{"a.b":"c","d.e":"f"},
		"rdma":{"x":{"hcaHandles":1}},"hugepageLimits":[{"pageSize":"2MB","limit":3}]}`)
	if d := cmp.Diff(want, merged); d != "" {
		t.Error(d)
	}
}
