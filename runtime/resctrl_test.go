package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/resctrl"
	"github.com/berth-run/berth/runtime/engine"
)

// fakeResctrl lets a store take a directory for the resctrl file system.
func fakeResctrl(b *box) string {
	b.Helper()
	root := b.TempDir()
	for file, text := range map[string]string{"info/L3/cbm_mask": "ff", "info/L3/min_cbm_bits": "1", "info/L3/num_closids": "4",
		"schemata": "L3:0=ff\n", "info/last_cmd_status": "ok\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.store.findResctrl = func() (*resctrl.Host, error) { return &resctrl.Host{Root: root}, nil }
	return root
}

func TestShareOfTheCache(t *testing.T) {
	b := newBox(t)
	root := fakeResctrl(b)
	b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"}
	c := b.started("rdt")
	dir := filepath.Join(root, c.ID)
	has := func(file, want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
	has("schemata", "L3:0=f\n")
	has("tasks", fmt.Sprint(c.state.Pid))

	out, _, err := b.exec(c, nil, "sh", "-c", "sleep 0; echo $$")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(dir + "/tasks"); string(got) == fmt.Sprint(c.state.Pid) || len(got) == 0 {
		t.Errorf("exec, process %q of the container, is not in the group: %s", out, got)
	}

	again, err := b.store.Load(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.UpdateAll(&specs.LinuxResources{}, Schemata{Cache: "L3:0=3"}); err != nil {
		t.Fatal(err)
	}
	has("schemata", "L3:0=3\n")
	if err := again.UpdateAll(&specs.LinuxResources{}, Schemata{Bandwidth: "MB:0=20"}); err == nil || err.Error() != "Intel RDT/MBA: memory bandwidth schema is not enabled" {
		t.Errorf("%v", err)
	}
	again, _ = b.store.Load(c.ID)
	if s, err := again.Spec(); err != nil || s.Linux.IntelRdt.L3CacheSchema != "L3:0=3" {
		t.Errorf("%+v, %v", s.Linux.IntelRdt, err)
	}
	// A limit that cannot be set takes the change of the share back.
	if err := again.UpdateAll(&specs.LinuxResources{Unified: map[string]string{"no.such": "1"}}, Schemata{Cache: "L3:0=1"}); err == nil {
		t.Error("a limit that does not exist was set")
	}
	has("schemata", "L3:0=3\n")
	if s, err := again.CacheStats(); err != nil {
		t.Error(err)
	} else if j, _ := json.Marshal(s); !strings.Contains(string(j), `"l3_cache_schema":"L3:0=3","schemata":["L3:0=3"]`) {
		t.Errorf("%s", j)
	}

	for _, f := range []string{"schemata", "tasks"} { // the kernel's own are not in the way of rmdir
		os.Remove(filepath.Join(dir, f))
	}
	b.delete(again)
	if exists(dir) {
		t.Error("the group is left")
	}
}

// What fails after the group was made takes it along.
func TestFailedCreationLeavesNoGroup(t *testing.T) {
	b := newBox(t)
	root := fakeResctrl(b)
	b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "gold"}
	b.refused("unable to apply Intel RDT configuration: clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty)")
	b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{MemBwSchema: "MB:0=20"}
	b.refused("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled")
	if list, _ := filepath.Glob(root + "/*"); len(list) != 2 {
		t.Errorf("left: %v", list)
	}
}

func TestWithoutResctrl(t *testing.T) {
	b := newBox(t)
	b.store.findResctrl = func() (*resctrl.Host, error) { return nil, resctrl.ErrNotEnabled }
	b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{}
	b.refused("intelRdt is specified in config, but Intel RDT is not enabled")
	b.spec.Linux.IntelRdt = nil
	c := b.started("plain")
	for want, s := range map[string]Schemata{
		"Intel RDT/CAT: l3 cache schema is not enabled":         {Cache: "L3:0=f"},
		"Intel RDT/MBA: memory bandwidth schema is not enabled": {Bandwidth: "MB:0=20"},
	} {
		if err := c.UpdateAll(&specs.LinuxResources{}, s); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	fakeResctrl(b)
	if err := c.UpdateAll(&specs.LinuxResources{}, Schemata{Cache: "L3:0=f"}); err == nil || err.Error() != "updating a non-existent Intel RDT configuration is not supported" {
		t.Errorf("%v", err)
	}
	if s, err := c.CacheStats(); err != nil || fmt.Sprint(s) != "{}" {
		t.Errorf("%v, %v", s, err)
	}
	c.Kill(9, true)
	c.Wait()
}

// A plan prints what is done on the host.
func TestPlanPrintsItsGroup(t *testing.T) {
	b := newBox(t)
	root := fakeResctrl(b)
	b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"}
	m := &maker{Container: &Container{ID: "x", store: b.store}, o: b.options()}
	m.spec = m.o.Spec
	if err := normalise(m.spec, b.bundle); err != nil {
		t.Fatal(err)
	}
	m.store.NoCgroup = true
	cfg, err := m.decide(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	plan, err := engine.Decide(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	plan.Print(&out)
	if want := "mkdir -p " + root + "/x\nprintf \"L3:0=f\\n\" > " + root + "/x/schemata\necho $PID > " + root + "/x/tasks\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%s\nis not in\n%s", want, out.String())
	}
}
