package cgroups

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestPlace(t *testing.T) {
	h := &Host{Mount: "/cg", Own: "/user.slice/session-1.scope"}
	for _, c := range [][3]string{
		{"", "id", "/cg/user.slice/id"}, {"a/b", "id", "/cg/user.slice/a/b"}, {"/a/b", "id", "/cg/a/b"},
		{"../../../etc", "id", "/cg/user.slice/etc"}, {"/../../etc", "id", "/cg/etc"}, {"/", "id", "/cg"},
	} {
		if got := h.place(c[0], c[1]); got != c[2] {
			t.Errorf("%q: %s, want %s", c[0], got, c[2])
		}
	}
	for own, want := range map[string]string{"0::/\n": "/", "12:cpu:/x\n0::/a/b\n": "/a/b", "1:cpu:/x\n": "/", "0::/../c\n": "/c"} {
		if got := unified(own); got != want {
			t.Errorf("%q: %s", own, got)
		}
	}
	if _, err := h.Manager(Request{Path: "/"}); err == nil {
		t.Error("the root cgroup was accepted")
	}
}

func TestManagerPrint(t *testing.T) {
	h := &Host{Mount: "/cg", Parent: "/", Own: "/", Controllers: []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"}}
	l, err := FromResources(resources(t, `{"blockIO":{"weight":10},"pids":{"limit":5},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}`))
	if err != nil {
		t.Fatal(err)
	}
	uid := 100000
	m, err := h.Manager(Request{ID: "x", Path: "/pod/x", Limits: l, Owner: &uid})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	m.Print(&b)
	want := `echo +pids +io +hugetlb +cpuset +cpu +memory +rdma > /cg/cgroup.subtree_control
echo +pids +io +hugetlb +cpuset +cpu +memory +rdma > /cg/pod/cgroup.subtree_control
mkdir -p /cg/pod/x
echo 5 > /cg/pod/x/pids.max
if [ -e /cg/pod/x/io.bfq.weight ]; then echo 10 > /cg/pod/x/io.bfq.weight; else echo 1 > /cg/pod/x/io.weight; fi
echo 0 > /cg/pod/x/hugetlb.2MB.max
[ ! -e /cg/pod/x/hugetlb.2MB.rsvd.max ] || echo 0 > /cg/pod/x/hugetlb.2MB.rsvd.max
chown 100000 /cg/pod/x && cd /cg/pod/x && chown -f 100000 $(cat /sys/kernel/cgroup/delegate)
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	j, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(j, &s); err != nil || s.Manager().Dir() != "/cg/pod/x" {
		t.Errorf("%s: %v", j, err)
	}
	h.Controllers = []string{"cpu"}
	var missing *NoControllerError
	if _, err := h.Manager(Request{ID: "x", Limits: l}); !errors.As(err, &missing) || missing.Controller != "pids" {
		t.Errorf("got %v", err)
	}
}

// A user who may make no cgroup does without if nothing asks for one.
func TestRootless(t *testing.T) {
	mount := files(t, map[string]string{"cgroup.controllers": "pids\n", "cgroup.subtree_control": "pids\n", "u/cgroup.controllers": "pids\n"})
	h := &Host{Mount: mount, Parent: "/u", Own: "/u/session", Controllers: []string{"pids"}}
	limited, _ := FromResources(resources(t, `{"pids":{"limit":5}}`))
	for _, c := range []struct {
		r    Request
		want string // part of the error, "" for none
	}{
		{Request{ID: "x", Rootless: true}, ""},
		{Request{ID: "x", Rootless: true, Limits: limited}, "rootless needs no limits + no cgrouppath when no permission"},
		{Request{ID: "x", Rootless: true, Path: "/u/y"}, "unable to apply cgroup configuration: "},
		{Request{ID: "x"}, "permission denied"},
	} {
		m, err := h.Manager(c.r)
		if err != nil {
			t.Fatal(err)
		}
		fs := m.(*cgroupfs)
		f, err := fs.finish(nil, &WriteError{Dir: fs.dir, File: "cgroup.procs", Err: unix.EACCES})
		if f != nil || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.r, err)
		}
		if c.want == "" {
			if m.Dir() != "" || m.Remove() != nil || m.Update(Limits{}) != nil {
				t.Error("goes on with a cgroup that is not there")
			}
			if err := m.Update(limited); err == nil {
				t.Error("took a limit without a cgroup")
			}
		}
	}
}

func TestBelow(t *testing.T) {
	for sub, want := range map[string]string{"": "/a", "b/c": "/a/b/c", "/b": "/a/b", "..": "", "b/../../c": ""} {
		if got, err := below("/a", sub); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", sub, got, err)
		}
	}
}

// A cgroup that hands domain controllers down takes no process.
func TestInner(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"leaf":       {map[string]string{"cgroup.subtree_control": "\n"}, false},
		"memory":     {map[string]string{"cgroup.subtree_control": "cpu memory\n"}, true},
		"by thread":  {map[string]string{"cgroup.subtree_control": "cpu pids\n", "sub/cgroup.type": "threaded\n", "sub/cgroup.events": "populated 1\n"}, false},
		"with child": {map[string]string{"cgroup.subtree_control": "cpu pids\n", "sub/cgroup.type": "domain\n", "sub/cgroup.events": "populated 1\n"}, true},
		"no process": {map[string]string{"cgroup.subtree_control": "cpu pids\n", "sub/cgroup.type": "domain\n", "sub/cgroup.events": "populated 0\n"}, false},
	} {
		if got := inner(files(t, c.files)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestUpdateOrder(t *testing.T) {
	dir := files(t, map[string]string{"memory.max": "1000\n", "memory.swap.max": "500\n", "cpu.max": "50000 100000\n", "cpu.max.burst": "0\n"})
	for in, want := range map[string]string{
		`{"memory":{"limit":2000,"swap":2100}}`:                 "memory.max memory.swap.max",
		`{"memory":{"limit":500,"swap":1500}}`:                  "memory.swap.max memory.max",
		`{"memory":{"limit":500,"swap":-1},"pids":{"limit":1}}`: "memory.swap.max memory.max pids.max",
		`{"cpu":{"quota":90000,"period":100000,"burst":80000}}`: "cpu.max cpu.max.burst",
		`{"cpu":{"quota":20000,"period":100000,"burst":10000}}`: "cpu.max.burst cpu.max",
		`{"cpu":{"quota":60000,"period":100000,"burst":60000}}`: "cpu.max cpu.max.burst",
	} {
		l, err := FromResources(resources(t, in))
		if err != nil {
			t.Fatal(err)
		}
		w, _, _ := l.writes()
		var names []string
		for _, v := range inOrder(dir, w) {
			names = append(names, v.File)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestUpdateKeeps(t *testing.T) {
	for in, want := range map[string]string{
		`{"cpu":{"period":90000}}`: "50000 90000", `{"cpu":{"quota":60000}}`: "60000 80000", `{"cpu":{"quota":-1}}`: "max 80000",
		`{"cpu":{"quota":5000,"period":20000}}`: "5000 20000",
	} {
		dir := files(t, map[string]string{"cpu.max": "50000 80000"})
		l, err := FromResources(resources(t, in))
		if err != nil {
			t.Fatal(err)
		}
		l.Devices = nil
		if err := Update(dir, l); err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(filepath.Join(dir, "cpu.max"))
		if !strings.HasPrefix(string(b), want) {
			t.Errorf("%s: %s", in, b)
		}
	}
}

func TestUpdateRefuses(t *testing.T) {
	dir := files(t, map[string]string{"memory.current": "1500\n", "memory.max": "max\n", "cgroup.controllers": "memory\n"})
	for in, want := range map[string]string{
		`{"memory":{"limit":1024,"checkBeforeUpdate":true}}`:             "rejecting memory limit 1024 <= usage 1500",
		`{"memory":{"limit":1000,"swap":1400,"checkBeforeUpdate":true}}`: "rejecting memory+swap limit 1400 <= usage 1500",
		`{"memory":{"limit":1000,"swap":1600}}`:                          "memory.swap.max to 600: open " + dir + "/memory.swap.max: no such file or directory: the kernel does not account for swap",
		`{"pids":{"limit":1}}`:                                           `controller "pids" not available`,
		`{"hugepageLimits":[{"pageSize":"3MB","limit":0}]}`:              `controller "hugetlb" not available`,
		`{"unified":{"memory.no":"1"}}`:                                  "this kernel's controller has no such file",
	} {
		l, err := FromResources(resources(t, in))
		if err != nil {
			t.Fatal(err)
		}
		if err := Update(dir, l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", in, err, want)
		}
	}
	if err := Update("/nonexistent", Limits{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Without the controller there is no limit to lift.
func TestNoLimitNeedsNoController(t *testing.T) {
	h := &Host{Mount: "/cg", Parent: "/", Own: "/", Controllers: []string{"hugetlb"}}
	for limit, wrong := range map[int64]bool{-1: false, 5: true} {
		if _, err := h.Manager(Request{ID: "c", Limits: Limits{PidsMax: &limit}}); (err != nil) != wrong {
			t.Errorf("pids.max %d: %v", limit, err)
		}
	}
}
