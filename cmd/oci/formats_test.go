package oci

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %v, got\n%s", name, err, got)
	}
}

var twoStates = []*runtime.State{
	{Version: "1.3.0", ID: "a", Pid: 4711, Status: "running", Bundle: "/b", Rootfs: "/b/rootfs",
		Created: "2026-11-25T02:55:03.123456789Z", Annotations: map[string]string{"k": "<v>"}, Owner: "root"},
	{Version: "1.3.0", ID: "a-container-with-a-long-name", Status: "stopped", Bundle: "/c", Rootfs: "/c/rootfs",
		Created: "2026-11-25T02:55:04Z", Owner: "#1000"},
}

func TestList(t *testing.T) {
	for file, c := range map[string]struct {
		format string
		quiet  bool
		list   []*runtime.State
	}{
		"list.table": {"table", false, twoStates}, "list.json": {"json", false, twoStates}, "list.quiet": {"", true, twoStates},
		"list-empty.table": {"", false, nil}, "list-empty.json": {"json", false, nil},
	} {
		var b bytes.Buffer
		if err := printList(&b, c.list, c.format, c.quiet); err != nil {
			t.Error(err)
		}
		golden(t, file, b.Bytes())
	}
	if err := printList(&bytes.Buffer{}, nil, "xml", false); err == nil || err.Error() != "invalid format option" {
		t.Errorf("an unknown format: %v", err)
	}
}

func TestListOfNoRoot(t *testing.T) {
	c, out := testCall(t)
	c.store.Root += "/nosuch"
	if status, err := c.execute(c.find("list"), []string{"-f", "json"}); status != 0 || err != nil || out.String() != "null\n" {
		t.Errorf("the default root: %d, %v, %s", status, err, out)
	}
	c.rootSet = true
	if _, err := c.execute(c.find("list"), nil); err == nil {
		t.Error("a root that was asked for and is not there is no error")
	}
}

func TestEvents(t *testing.T) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	s := &cgroups.Stats{Pids: 2, CPU: map[string]uint64{"usage_usec": 5, "user_usec": 3, "system_usec": 2}}
	for _, ev := range []event{{"stats", "web", s.OCI()}, {Type: "oom", ID: "web"}} {
		if err := e.Encode(ev); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "events", b.Bytes())
}

func TestSelectLines(t *testing.T) {
	table := "UID          PID    PPID  C STIME TTY          TIME CMD\nroot           1       0  0 02:05 ?        00:00:00 sleep 1\n" +
		"root          11       1  0 02:05 ?        00:00:00 sh -c 1\n\nroot         111       1  0 02:05 ?        00:00:00 x"
	got, err := selectLines(table, []int{1, 111})
	want := strings.Join(slices.Delete(strings.Split(table, "\n"), 2, 4), "\n")
	if err != nil || got != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
	if _, err := selectLines("CMD\nx\n", nil); err == nil || err.Error() != "couldn't find PID field in ps output" {
		t.Errorf("without a PID: %v", err)
	}
	if _, err := selectLines("PID\nx\n", nil); err == nil {
		t.Error("a PID that is no number is no error")
	}
}

// testdata/spec*.json were compared with what runc 1.5.1 writes: equal but for
// the order in which JSON objects have no order.
func TestSpec(t *testing.T) {
	for _, c := range []struct {
		name             string
		cgroup, rootless bool
	}{{"spec.json", true, false}, {"spec-hybrid.json", false, false}, {"spec-rootless.json", true, true}} {
		spec := exampleSpec(c.cgroup)
		if c.rootless {
			makeRootless(spec, 1000, 1001)
		}
		dir := t.TempDir()
		t.Chdir(dir)
		if err := writeNew(configFile, spec); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(configFile)
		if err != nil {
			t.Fatal(err)
		}
		again, err := runtime.LoadSpec(configFile)
		if err != nil || again.Process.Args[0] != "sh" {
			t.Errorf("%s cannot be loaded: %v", c.name, err)
		}
		if err := writeNew(configFile, spec); err == nil || err.Error() != "File config.json exists. Remove it first" {
			t.Errorf("written twice: %v", err)
		}
		t.Chdir(packageDir)
		golden(t, c.name, b)
	}
}

var packageDir = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

func TestCheckProcess(t *testing.T) {
	for want, p := range map[string]*specs.Process{
		"process property must not be empty": nil,
		"Cwd property must not be empty":     {Args: []string{"x"}},
		"Cwd must be an absolute path":       {Args: []string{"x"}, Cwd: "x"},
		"args must not be empty":             {Cwd: "/"},
	} {
		if err := checkProcess(p); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := checkProcess(&specs.Process{Args: []string{"x"}, Cwd: "/"}); err != nil {
		t.Error(err)
	}
}

func TestFeatures(t *testing.T) {
	c, out := testCall(t)
	if status, err := c.dispatch([]string{"features"}); status != 0 || err != nil {
		t.Fatal(status, err)
	}
	d := json.NewDecoder(out)
	d.DisallowUnknownFields()
	var f features.Features
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMin != "1.0.0" || f.OCIVersionMax != specs.Version || len(f.Hooks) != 6 {
		t.Errorf("%+v", f)
	}
	l := f.Linux
	if len(l.Capabilities) != unix.CAP_LAST_CAP+1 || l.Capabilities[unix.CAP_LAST_CAP] != "CAP_CHECKPOINT_RESTORE" {
		t.Errorf("capabilities: %q", l.Capabilities)
	}
	for _, sorted := range [][]string{f.MountOptions, l.Namespaces, l.Seccomp.Actions, l.Seccomp.Operators, l.Seccomp.Archs, l.MemoryPolicy.Modes, l.MemoryPolicy.Flags} {
		if len(sorted) == 0 || !slices.IsSorted(sorted) {
			t.Errorf("empty or not sorted: %q", sorted)
		}
	}
	if len(l.Namespaces) != 8 || *l.Cgroup.V1 || !*l.Cgroup.V2 || !*l.MountExtensions.IDMap.Enabled {
		t.Errorf("%+v", l)
	}
}
