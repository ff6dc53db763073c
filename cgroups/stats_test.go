package cgroups

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files makes a directory that looks like a cgroup.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, s := range content {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pressure(n string) string {
	return "some avg10=" + n + ".10 avg60=0.60 avg300=0.30 total=1" + n + "\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2" + n + "\n"
}

func TestStats(t *testing.T) {
	dir := files(t, map[string]string{
		"cpu.stat":        "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\n",
		"cpu.pressure":    pressure("1"),
		"memory.current":  "4096\n",
		"memory.max":      "max\n",
		"memory.peak":     "8192\n",
		"memory.stat":     "anon 1\nfile 2\n",
		"memory.events":   "oom 3\noom_kill 2\n",
		"memory.pressure": pressure("2"), "io.pressure": pressure("3"),
		"memory.swap.current": "100\n", "memory.swap.max": "max\n", "memory.swap.peak": "200\n",
		"pids.current": "3\n", "pids.max": "max\n",
		"io.stat":       "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n253:1 rbytes=5 wbytes=0 rios=1 wios=0\n259:0 \n",
		"rdma.current":  "mlx4_0 hca_handle=2 hca_object=2000\n",
		"rdma.max":      "mlx4_0 hca_handle=max hca_object=max\n",
		"cgroup.freeze": "1\n",
	})
	s, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.IORead != 6 || s.IOWritten != 2 || s.MemoryEvents["oom_kill"] != 2 || !s.FreezeRequested || s.RDMAMax["mlx4_0"]["hca_object"] != NoLimit || s.SwapPeak != 200 {
		t.Errorf("%+v", s)
	}
	b, err := json.Marshal(s.OCI())
	if err != nil {
		t.Fatal(err)
	}
	// The order and the names are those of runc 1.4 on a cgroup v2 host.
	want := `{"cpu":{"usage":{"total":7000,"kernel":3000,"user":4000},"throttling":{"periods":9,"throttledPeriods":2,"throttledTime":5000},` +
		`"psi":{"some":{"avg10":1.1,"avg60":0.6,"avg300":0.3,"total":11},"full":{"avg10":0,"avg60":0,"avg300":0,"total":21}}},` +
		`"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},` +
		`"memory":{"cache":2,"usage":{"limit":18446744073709551615,"usage":4096,"max":8192,"failcnt":0},"swap":{"limit":18446744073709551615,"usage":4196,"failcnt":0},"raw":{"anon":1,"file":2},` +
		`"psi":{"some":{"avg10":2.1,"avg60":0.6,"avg300":0.3,"total":12},"full":{"avg10":0,"avg60":0,"avg300":0,"total":22}}},` +
		`"pids":{"current":3},` +
		`"blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":1},{"major":8,"op":"Write","value":2},{"major":253,"minor":1,"op":"Read","value":5},{"major":253,"minor":1,"op":"Write"}],` +
		`"ioServicedRecursive":[{"major":8,"op":"Read","value":3},{"major":8,"op":"Write","value":4},{"major":253,"minor":1,"op":"Read","value":1},{"major":253,"minor":1,"op":"Write"}],` +
		`"psi":{"some":{"avg10":3.1,"avg60":0.6,"avg300":0.3,"total":13},"full":{"avg10":0,"avg60":0,"avg300":0,"total":23}}},` +
		`"hugetlb":{},"intel_rdt":{},"network_interfaces":null}`
	if d := cmp.Diff(want, string(b)); d != "" {
		t.Error(d)
	}
}

func TestStatsOfMissingControllers(t *testing.T) {
	s, err := Read(files(t, map[string]string{"cgroup.procs": "1\n2\n", "cpu.stat": "usage_usec 1\n"}))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(s.OCI())
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]any{"memory": map[string]any{}, "pids": map[string]any{"current": 2.0}, "blkio": map[string]any{}},
		map[string]any{"memory": m["memory"], "pids": m["pids"], "blkio": m["blkio"]}); d != "" {
		t.Error(d)
	}
	if _, err := Read("/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestStatsMemoryLimits(t *testing.T) {
	dir := files(t, map[string]string{"memory.stat": "file 0\n", "memory.current": "10\n", "memory.max": "1000\n", "memory.swap.max": "500\n", "memory.swap.current": "1\n"})
	s, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := s.OCI().Memory
	if m.Usage != (OCIMemoryEntry{Limit: 1000, Usage: 10}) || m.Swap != (OCIMemoryEntry{Limit: 1500, Usage: 11}) {
		t.Errorf("%+v", m)
	}
}

func TestPageSizes(t *testing.T) {
	for kb, want := range map[uint64]string{64: "64KB", 2048: "2MB", 32768: "32MB", 1 << 20: "1GB", 16 << 20: "16GB"} {
		if got := pageSize(kb); got != want {
			t.Errorf("%d: %s", kb, got)
		}
	}
}

func TestWatchOOM(t *testing.T) {
	dir := files(t, map[string]string{"memory.events": "oom_kill 1\n", "cgroup.events": "populated 1\nfrozen 0\n"})
	put := func(name, s string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0) // modified, not truncated first
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(s)
		f.Close()
	}
	kills := make(chan struct{}, 9)
	done := make(chan error)
	go func() { done <- WatchOOM(context.Background(), dir, func() { kills <- struct{}{} }) }()
	time.Sleep(50 * time.Millisecond)
	put("memory.events", "oom_kill 2\n")
	select {
	case <-kills:
	case <-time.After(10 * time.Second):
		t.Fatal("not told of the kill")
	}
	put("memory.events", "oom_kill 2\n") // no more
	put("cgroup.events", "populated 0\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(kills) > 0 {
		t.Error("told of a kill that was none")
	}
	put("cgroup.events", "populated 1\n")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := WatchOOM(ctx, dir, func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	var missing *NoControllerError
	if err := WatchOOM(ctx, files(t, map[string]string{"cgroup.controllers": "cpu pids\n"}), nil); !errors.As(err, &missing) || missing.Controller != "memory" {
		t.Errorf("got %v", err)
	}
}
