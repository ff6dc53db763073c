package resctrl

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// fake is a directory with the files of a resctrl file system, but for what
// the kernel makes in a new group.
func fake(t *testing.T, features ...string) *Host {
	t.Helper()
	h := &Host{t.TempDir()}
	for _, f := range features {
		switch f {
		case "L3":
			put(t, h, "info/L3/cbm_mask", "fffff\n")
			put(t, h, "info/L3/min_cbm_bits", "1\n")
			put(t, h, "info/L3/num_closids", "16\n")
		case "MB":
			put(t, h, "info/MB/bandwidth_gran", "10\n")
			put(t, h, "info/MB/delay_linear", "1\n")
			put(t, h, "info/MB/min_bandwidth", "10\n")
			put(t, h, "info/MB/num_closids", "8\n")
		case "L3_MON":
			put(t, h, "info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\nmbm_total_bytes_config\n")
		}
	}
	put(t, h, "info/last_cmd_status", "ok\n")
	put(t, h, "schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n")
	put(t, h, "tasks", "1\n")
	put(t, h, "mon_groups/.keep", "")
	return h
}

func put(t *testing.T, h *Host, file, text string) {
	t.Helper()
	file = filepath.Join(h.Root, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, file ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(file...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// empty does what the kernel does when a group is removed.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

func TestPlanSaysWhatIsDone(t *testing.T) {
	h := fake(t, "L3", "MB", "L3_MON")
	put(t, h, "gold/mon_groups/.keep", "")
	put(t, h, "there/tasks", "")
	for _, c := range []struct {
		name, id string
		r        specs.LinuxIntelRdt
		want     string
	}{
		{"both schemas", "c1", specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20"},
			`mkdir -p /c1|printf "L3:0=f\nMB:0=20\n" > /c1/schemata|echo $PID > /c1/tasks|`},
		{"schemata come last", "c1", specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", Schemata: []string{"L3:0=3", "", "L2:0=1"}},
			`mkdir -p /c1|printf "L3:0=f\nL3:0=3\nL2:0=1\n" > /c1/schemata|echo $PID > /c1/tasks|`},
		{"a class that must be there", "c1", specs.LinuxIntelRdt{ClosID: "gold"}, `[ -d /gold ]|echo $PID > /gold/tasks|`},
		{"a class with a share", "c1", specs.LinuxIntelRdt{ClosID: "gold", MemBwSchema: "MB:0=20"},
			`mkdir -p /gold|printf "MB:0=20\n" > /gold/schemata|echo $PID > /gold/tasks|`},
		{"counters in a class", "c1", specs.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true},
			`[ -d /gold ]|mkdir -p /gold/mon_groups/c1|echo $PID > /gold/tasks|echo $PID > /gold/mon_groups/c1/tasks|`},
		{"the default group", "c1", specs.LinuxIntelRdt{ClosID: "/"}, `[ -d  ]|echo $PID > /tasks|`},
		{"nothing", "c1", specs.LinuxIntelRdt{}, `mkdir -p /c1|echo $PID > /c1/tasks|`},
	} {
		p, err := h.Plan(c.id, &c.r)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		p.Print(&b)
		if got := strings.ReplaceAll(strings.ReplaceAll(b.String(), h.Root, ""), "\n", "|"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
		if own := c.r.ClosID == ""; p.Own != own {
			t.Errorf("%s: own is %v", c.name, p.Own)
		}
	}
	if p, err := h.Plan("there", &specs.LinuxIntelRdt{}); err != nil || p.Own {
		t.Errorf("a directory that was there is the container's own: %v, %v", p, err)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		features []string
		r        specs.LinuxIntelRdt
		want     string
	}{
		{[]string{"MB"}, specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"}, "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled"},
		{[]string{"L3"}, specs.LinuxIntelRdt{MemBwSchema: "MB:0=20"}, "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled"},
		{nil, specs.LinuxIntelRdt{ClosID: ".."}, `invalid intelRdt.ClosID ".."`},
		{nil, specs.LinuxIntelRdt{ClosID: "."}, `invalid intelRdt.ClosID "."`},
		{nil, specs.LinuxIntelRdt{ClosID: "a/b"}, `invalid intelRdt.ClosID "a/b"`},
		{nil, specs.LinuxIntelRdt{ClosID: "a\x00b"}, `invalid intelRdt.ClosID "a\x00b"`},
	} {
		if _, err := fake(t, c.features...).Plan("c", &c.r); err == nil || err.Error() != c.want {
			t.Errorf("%v: %v, want %s", c.r, err, c.want)
		}
	}
}

func TestGroupOfItsOwnComesAndGoes(t *testing.T) {
	h := fake(t, "L3", "MB")
	p, err := h.Plan("c1", &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Enter(42); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(h.Root, "c1")
	if got := get(t, dir, "schemata") + get(t, dir, "tasks"); got != "L3:0=f\n42" {
		t.Errorf("%q", got)
	}
	b, err := json.Marshal(p.Group) // as it is kept till delete
	if err != nil {
		t.Fatal(err)
	}
	var g Group
	if err := json.Unmarshal(b, &g); err != nil || g != p.Group {
		t.Errorf("%s: %v, %v", b, g, err)
	}
	if err := g.Enter(43); err != nil || get(t, dir, "tasks") != "43" { // the kernel's file adds
		t.Errorf("exec: %v", err)
	}
	empty(t, dir)
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the group is still there")
	}
	if err := g.Remove(); err != nil { // a second time
		t.Error(err)
	}
}

func TestClassOfOthersStays(t *testing.T) {
	h := fake(t, "L3", "L3_MON")
	put(t, h, "gold/mon_groups/.keep", "")
	p, err := h.Plan("c1", &specs.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Enter(42); err != nil {
		t.Fatal(err)
	}
	if got := get(t, h.Root, "gold/tasks") + get(t, p.Monitor, "tasks"); got != "4242" {
		t.Errorf("%q", got)
	}
	empty(t, p.Monitor)
	if err := p.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.Monitor); err == nil {
		t.Error("the counters are still there")
	}
	if _, err := os.Stat(filepath.Join(h.Root, "gold")); err != nil {
		t.Error(err)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	h := fake(t, "L3")
	put(t, h, "info/last_cmd_status", "Mask out of range\n")
	p, err := h.Plan("c1", &specs.LinuxIntelRdt{ClosID: "new", Schemata: []string{"L3:0=0"}, EnableMonitoring: true})
	if err != nil {
		t.Fatal(err)
	}
	p.Monitor = filepath.Join(h.Root, "no/such/c1")
	empty := p.Dir + "/schemata"
	p.Schemata = "" // its file would be in the way of rmdir, as the kernel's is not
	err = p.Enter(42)
	if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.HasSuffix(err.Error(), ", last_cmd_status: Mask out of range") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(p.Dir); err == nil {
		t.Errorf("%s is still there", empty)
	}
	if _, err := h.Plan("c1", &specs.LinuxIntelRdt{ClosID: "absent"}); err != nil {
		t.Error(err)
	}
	q, _ := h.Plan("c1", &specs.LinuxIntelRdt{ClosID: "absent"})
	if err := q.Enter(42); err == nil || !strings.Contains(err.Error(), "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty)") {
		t.Errorf("%v", err)
	}
	if err := Write(filepath.Join(h.Root, "absent"), "L3:0=0\n"); err == nil || !strings.HasPrefix(err.Error(), `intelrdt: unable to write "L3:0=0\n": `) {
		t.Errorf("%v", err)
	}
}

func TestStats(t *testing.T) {
	h := fake(t, "L3", "MB", "L3_MON")
	put(t, h, "c1/schemata", "    MB:0=20;1=100\n    L3:0=f;1=fffff\n")
	for f, v := range map[string]string{"mon_L3_00/llc_occupancy": "10", "mon_L3_00/mbm_total_bytes": "20", "mon_L3_00/mbm_local_bytes": "30",
		"mon_L3_01/llc_occupancy": "11", "mon_L3_01/mbm_total_bytes": "21", "mon_L3_01/mbm_local_bytes": "31"} {
		put(t, h, "c1/mon_groups/c1/mon_data/"+f, v+"\n")
	}
	s, err := h.Stats(Group{Dir: h.Root + "/c1", Monitor: h.Root + "/c1/mon_groups/c1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"l3_cache_info":{"cbm_mask":"fffff","min_cbm_bits":1,"num_closids":16},"l3_cache_schema_root":"L3:0=fffff;1=fffff","l3_cache_schema":"L3:0=f;1=fffff",` +
		`"mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},"mem_bw_schema_root":"MB:0=100;1=100","mem_bw_schema":"MB:0=20;1=100",` +
		`"schemata":["MB:0=20;1=100","    L3:0=f;1=fffff"],` +
		`"mbm_stats":[{"mbm_total_bytes":20,"mbm_local_bytes":30},{"mbm_total_bytes":21,"mbm_local_bytes":31}],"cmt_stats":[{"llc_occupancy":10},{"llc_occupancy":11}]}`
	if string(b) != want {
		t.Errorf("%s\nwant\n%s", b, want)
	}
	if _, err := h.Stats(Group{Dir: h.Root + "/c2"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	put(t, h, "info/L3/num_closids", "many\n")
	if _, err := h.Stats(Group{Dir: h.Root + "/c1"}); err == nil {
		t.Error("a number that is none was read")
	}
}

func TestMountOf(t *testing.T) {
	const text = "25 30 0:24 / /sys rw shared:7 - sysfs sysfs rw\n26 25 0:25 / /mnt/a\\040b rw - resctrl resctrl rw\n27 25 0:25 / /later rw - resctrl resctrl rw\n"
	if got := mountOf(text); got != "/mnt/a b" {
		t.Errorf("%q", got)
	}
	if got := mountOf("25 30 0:24 / /resctrl rw - sysfs resctrl rw\n"); got != "" {
		t.Errorf("%q", got)
	}
}

func TestFind(t *testing.T) {
	h, err := Find()
	if err == nil {
		if get(t, h.Root, "tasks") == "" {
			t.Error("the default group has no tasks")
		}
		return
	}
	if !errors.Is(err, ErrNotEnabled) {
		t.Error(err)
	}
}
