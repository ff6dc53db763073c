package cgroups

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

func TestUnitName(t *testing.T) {
	for _, c := range []struct {
		path       string
		user       bool
		slice, err string
		unit       string
	}{
		{"", false, "system.slice", "", "berth-id.scope"},
		{"", true, "user.slice", "", "berth-id.scope"},
		{":docker:1", false, "system.slice", "", "docker-1.scope"},
		{"a-b.slice:cri:x", true, "a-b.slice", "", "cri-x.scope"},
		{"-:cri:x", false, "-.slice", "", "cri-x.scope"},
		{"/a/b", false, "", `expected cgroupsPath to be of format "slice:prefix:name"`, ""},
		{"a:b:c:d", false, "", "expected cgroupsPath", ""},
		{"a:b:c", false, "", "invalid slice name: a", ""},
		{"a/b.slice:b:c", false, "", "invalid slice name", ""},
		{"a--b.slice:b:c", false, "", "invalid slice name", ""},
		{"a.slice:b:../c", false, "", "slash", ""},
		{"a.slice:b:pod.slice", false, "", "a slice holds no processes", ""},
	} {
		slice, unit, err := unitName(c.path, "id", c.user)
		if slice != c.slice || unit != c.unit || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q %q %v", c.path, slice, unit, err)
		}
	}
	for slice, want := range map[string]string{"a.slice": "/a.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice", "-.slice": "/", ".slice": "", "-a.slice": "", "a-.slice": "", "a": ""} {
		if got, err := sliceDir(slice); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s %v", slice, got, err)
		}
	}
}

func TestAnnotations(t *testing.T) {
	got, err := annotated(map[string]string{"other": "x", annotation + "TimeoutStopUSec": "uint64 5", annotation + "TimeoutStartSec": "7",
		annotation + "CollectMode": "'inactive-or-failed'", annotation + "Documentation": "['a','b']", annotation + "RuntimeMaxSec": "1.5", annotation + "SendSIGHUP": "true"})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, p := range got {
		text = append(text, fmt.Sprintf("%s %s %v", p.Name, p.Value.Signature(), p.Value.Value()))
	}
	want := []string{"CollectMode s inactive-or-failed", "Documentation as [a b]", "RuntimeMaxUSec t 1500000", "SendSIGHUP b true",
		"TimeoutStartUSec t 7000000", "TimeoutStopUSec t 5"}
	if d := cmp.Diff(want, text); d != "" {
		t.Error(d)
	}
	for _, bad := range [][2]string{{"ab", "1"}, {"A_b", "1"}, {"", "1"}, {"Name", "nonsense"}, {"TimeoutSec", "'x'"}, {"Name", ""}} {
		if _, err := annotated(map[string]string{annotation + bad[0]: bad[1]}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestProperties(t *testing.T) {
	for in, want := range map[string]string{
		`{"memory":{"limit":1000,"swap":1500,"reservation":3}}`: "MemoryMax=1000 MemorySwapMax=500 MemoryLow=3",
		`{"memory":{"limit":-1}}`:                               "MemoryMax=18446744073709551615 MemorySwapMax=18446744073709551615",
		`{"cpu":{"shares":1024}}`:                               "CPUWeight=100",
		`{"cpu":{"idle":1}}`:                                    "CPUWeight=0",
		`{"cpu":{"idle":0,"burst":5}}`:                          "",
		`{"cpu":{"quota":50000,"period":100000}}`:               "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=500000",
		`{"cpu":{"quota":600000,"period":900000}}`:              "CPUQuotaPeriodUSec=900000 CPUQuotaPerSecUSec=670000 cpu.max=603000 900000",
		`{"cpu":{"quota":-1,"period":50000}}`:                   "CPUQuotaPeriodUSec=50000 CPUQuotaPerSecUSec=18446744073709551615",
		`{"cpu":{"cpus":"0,2-3,9","mems":"0"}}`:                 "AllowedCPUs=[13 2] AllowedMemoryNodes=[1]",
		`{"pids":{"limit":0}}`:                                  "TasksMax=1",
		`{"pids":{"limit":-1}}`:                                 "TasksMax=18446744073709551615",
		`{"blockIO":{"weight":750,"weightDevice":[{"major":8,"minor":0,"weight":20}]}}`:                                                                                                                      "IOWeight=7475",
		`{"unified":{"memory.min":"1","memory.high":"max","memory.zswap.max":"2","pids.max":"0","cpu.weight":" 42\n","io.weight":"default 7","io.max":"8:0 rbps=1","cpu.max":"5000","hugetlb.2MB.max":"0"}}`: "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=50000 CPUWeight=42 IOWeight=7 MemoryHigh=18446744073709551615 MemoryMin=1 MemoryZSwapMax=2 TasksMax=1",
		`{"unified":{"cpu.max":"1 2 3"}}`: `cpu.max="1 2 3" as a property of systemd: not a quota and a period`,
		`{"unified":{"cpu.max":"x"}}`:     `cpu.max="x" as a property of systemd: the quota is no number`,
		`{"unified":{"memory.max":"1k"}}`: `memory.max="1k" as a property of systemd: strconv.ParseUint: parsing "1k": invalid syntax`,
		`{"cpu":{"cpus":"3-1"}}`:          `cpuset.cpus="3-1" as a property of systemd: 3-1 is no range below 8192`,
		`{"cpu":{"cpus":"0-4000000000"}}`: `cpuset.cpus="0-4000000000" as a property of systemd: 0-4000000000 is no range below 8192`,
		`{"cpu":{"cpus":","}}`:            `cpuset.cpus="," as a property of systemd: the list is empty`,
	} {
		l, err := FromResources(resources(t, in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		writes, _, _ := l.writes()
		before := lines(l)
		props, err := properties(writes)
		var got []string
		for _, p := range props {
			got = append(got, fmt.Sprintf("%s=%v", p.Name, p.Value.Value()))
		}
		for _, w := range writes { // what was rounded
			if !strings.Contains(before, w.File+"="+w.Value) {
				got = append(got, w.File+"="+w.Value)
			}
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s:\n got %s\nwant %s", in, s, want)
		}
	}
}

func TestScopePrint(t *testing.T) {
	h := &Host{Mount: "/cg", Parent: "/", Own: "/", Controllers: []string{"cpuset", "memory", "hugetlb"}}
	l, err := FromResources(resources(t, `{"memory":{"limit":1000},"cpu":{"cpus":"0-1"},"hugepageLimits":[{"pageSize":"2MB","limit":0}],"unified":{"memory.oom.group":"1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Manager(Request{ID: "it's", Path: "a-b.slice:cri:x", Limits: l, Systemd: true, Annotations: map[string]string{annotation + "Documentation": "['a','b']"}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	m.Print(&b)
	want := `busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit 'ssa(sv)a(sa(sv))' cri-x.scope replace 13 \
  Description s 'berth container it'\''s' \
  Slice s 'a-b.slice' \
  Delegate b true \
  MemoryAccounting b true \
  CPUAccounting b true \
  IOAccounting b true \
  TasksAccounting b true \
  DefaultDependencies b false \
  Documentation as 2 'a' 'b' \
  MemoryMax t 1000 \
  AllowedCPUs ay 1 3 \
  OOMPolicy s 'kill' \
  PIDs au 1 $PID \
  0
echo +memory +cpuset +hugetlb > /cg/cgroup.subtree_control
echo +memory +cpuset +hugetlb > /cg/a.slice/cgroup.subtree_control
echo +memory +cpuset +hugetlb > /cg/a.slice/a-b.slice/cgroup.subtree_control
mkdir -p /cg/a.slice/a-b.slice/cri-x.scope
echo 1000 > /cg/a.slice/a-b.slice/cri-x.scope/memory.max
echo 0-1 > /cg/a.slice/a-b.slice/cri-x.scope/cpuset.cpus
echo 0 > /cg/a.slice/a-b.slice/cri-x.scope/hugetlb.2MB.max
[ ! -e /cg/a.slice/a-b.slice/cri-x.scope/hugetlb.2MB.rsvd.max ] || echo 0 > /cg/a.slice/a-b.slice/cri-x.scope/hugetlb.2MB.rsvd.max
echo 1 > /cg/a.slice/a-b.slice/cri-x.scope/memory.oom.group
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	j, _ := json.Marshal(m.State())
	if string(j) != `{"dir":"/cg/a.slice/a-b.slice/cri-x.scope","unit":"cri-x.scope"}` {
		t.Errorf("%s", j)
	}
}

// fakeSystemd answers on a socket as systemd's own does. answer gives the reply
// to a call, or an error's name; a job is done at once with result.
type fakeSystemd struct {
	t      *testing.T
	calls  []string
	answer func(call string, nth int) (reply any, result, errName string)
}

func (f *fakeSystemd) listen() string {
	dir := f.t.TempDir() + direct
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		f.t.Fatal(err)
	}
	l, err := net.Listen("unix", dir)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.serve(c)
		}
	}()
	return "unix:path=" + dir
}

func (f *fakeSystemd) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	in.ReadByte() // credentials come with it
	for _, reply := range []string{"REJECTED EXTERNAL", "DATA", "OK 1234", "AGREE_UNIX_FD", ""} {
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		if reply != "" {
			fmt.Fprintf(c, "%s\r\n", reply)
		}
	}
	serial := uint32(100)
	send := func(m dbus.Message, body ...any) {
		serial++
		m.Body = body
		if len(body) > 0 {
			m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
		}
		var b bytes.Buffer
		if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
			f.t.Error(err)
		}
		binary.LittleEndian.PutUint32(b.Bytes()[8:], serial)
		c.Write(b.Bytes())
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		name := m.Headers[dbus.FieldMember].Value().(string)
		nth := strings.Count(strings.Join(f.calls, "\n"), name)
		f.calls = append(f.calls, fmt.Sprintf("%s %s", name, m.Headers[dbus.FieldSignature].Value()))
		reply, result, errName := f.answer(name, nth)
		r := dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(m.Serial())}}
		switch {
		case errName != "":
			r.Type = dbus.TypeError
			r.Headers[dbus.FieldErrorName] = dbus.MakeVariant(busName + "." + errName)
			send(r, "because")
		case result != "":
			signal := dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(busPath)),
				dbus.FieldInterface: dbus.MakeVariant(busIface), dbus.FieldMember: dbus.MakeVariant("JobRemoved")}}
			send(signal, uint32(6), dbus.ObjectPath("/job/6"), "other.scope", "failed")
			send(signal, uint32(7), dbus.ObjectPath("/job/7"), "x.scope", result) // before the reply
			send(r, dbus.ObjectPath("/job/7"))
		case reply != nil:
			send(r, reply)
		default:
			send(r)
		}
	}
}

func TestStartUnit(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(call string, nth int) (any, string, string)
		calls  string
		err    string
	}{
		"done": {func(call string, nth int) (any, string, string) { return nil, "done", "" },
			"StartTransientUnit ssa(sv)a(sa(sv))", ""},
		"left over": {func(call string, nth int) (any, string, string) {
			switch {
			case call == "ResetFailedUnit":
				return nil, "", ""
			case nth == 0:
				return nil, "", "UnitExists"
			}
			return nil, "done", ""
		}, "StartTransientUnit ssa(sv)a(sa(sv)), ResetFailedUnit s, StartTransientUnit ssa(sv)a(sa(sv))", ""},
		"in use": {func(call string, nth int) (any, string, string) {
			if call == "ResetFailedUnit" {
				return nil, "", ""
			}
			return nil, "", "UnitExists"
		}, "StartTransientUnit ssa(sv)a(sa(sv)), ResetFailedUnit s, StartTransientUnit ssa(sv)a(sa(sv))", "start the systemd unit x.scope: because"},
		"failed": {func(call string, nth int) (any, string, string) {
			if call == "ResetFailedUnit" {
				return nil, "", ""
			}
			return nil, "failed", ""
		}, "StartTransientUnit ssa(sv)a(sa(sv)), ResetFailedUnit s", `its job ended as "failed"`},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeSystemd{t: t, answer: c.answer}
			b, err := dialBus(f.listen())
			if err != nil {
				t.Fatal(err)
			}
			defer b.close()
			err = b.start("x.scope", []property{prop("Delegate", true), prop("PIDs", []uint32{1}), prop("AllowedCPUs", []byte{1})})
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v", err)
			}
			if got := strings.Join(f.calls, ", "); got != c.calls {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestStopUnit(t *testing.T) {
	for errName, wrong := range map[string]bool{"": false, "NoSuchUnit": false, "Broken": true} {
		f := &fakeSystemd{t: t, answer: func(call string, nth int) (any, string, string) {
			if call == "StopUnit" && errName == "" {
				return nil, "done", ""
			}
			return nil, "", errName
		}}
		b, err := dialBus(f.listen())
		if err != nil {
			t.Fatal(err)
		}
		if err := b.stop("x.scope"); (err != nil) != wrong {
			t.Errorf("%s: %v", errName, err)
		}
		b.close()
		if got := strings.Join(f.calls, ", "); got != "StopUnit ss, ResetFailedUnit s" {
			t.Error(got)
		}
	}
}

// A limit that leaves no room for the placeholder is set when that is gone.
func TestFewProcesses(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
	mount := files(t, map[string]string{"cgroup.controllers": "pids\n"})
	for limit, few := range map[string]string{"0": "1", "2": "2", "3": "", "-1": ""} {
		l, err := FromResources(resources(t, `{"pids":{"limit":`+limit+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		m, err := (&Host{Mount: mount, Parent: "/", Own: "/", Controllers: []string{"pids"}}).Manager(Request{ID: "x", Systemd: true, Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		s := m.(*scope)
		early := slices.ContainsFunc(s.props, func(p property) bool { return p.Name == "TasksMax" }) || len(s.plan.Writes) > 0
		if s.few != few || early != (few == "") {
			t.Errorf("limit %s: later %q, at once %v", limit, s.few, early)
		}
		if few == "" {
			if err := s.Settle(); err != nil { // no bus is asked
				t.Error(err)
			}
			continue
		}
		f := &fakeSystemd{t: t, answer: func(string, int) (any, string, string) { return nil, "", "" }}
		s.at = State{Dir: files(t, map[string]string{"pids.max": ""}), Unit: "x.scope", UserBus: f.listen()}
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(s.at.Dir + "/pids.max")
		if got := strings.Join(f.calls, ", "); !strings.HasPrefix(got, "SetUnitProperties") || string(b) != few {
			t.Errorf("limit %s: %s, pids.max %q", limit, got, b)
		}
	}
}

func TestSystemdVersion(t *testing.T) {
	props := []property{prop("CPUWeight", uint64(0)), prop("OOMPolicy", "kill"), prop("TasksMax", uint64(1))}
	for version, want := range map[string]int{"252.39-1~deb12u1": 2, "v245": 1, "257": 3} {
		f := &fakeSystemd{t: t, answer: func(call string, nth int) (any, string, string) { return dbus.MakeVariant(version), "", "" }}
		b, err := dialBus(f.listen())
		if err != nil {
			t.Fatal(err)
		}
		if got := b.known(props); len(got) != want {
			t.Errorf("%s: %v", version, got)
		}
		if got := b.known(props[2:]); len(got) != 1 || len(f.calls) != 1 {
			t.Errorf("asked for what every version has: %v", f.calls)
		}
		b.close()
	}
}

func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	h := &Host{Mount: "/cg", Parent: "/", Own: "/"}
	if _, err := h.Manager(Request{ID: "x", Systemd: true, Rootless: true}); err == nil || !strings.Contains(err.Error(), "dbus-user-session") {
		t.Errorf("got %v", err)
	}
	if _, err := dialBus("unix:path=/nonexistent"); err == nil || !strings.Contains(err.Error(), "connect to systemd") {
		t.Errorf("got %v", err)
	}
}
