package container

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/image"
)

func TestCommand(t *testing.T) {
	empty, sh := "", "/bin/sh"
	img := image.Config{Entrypoint: []string{"/ep", "x"}, Cmd: []string{"a", "b"}}
	for _, tc := range []struct {
		name string
		img  image.Config
		o    Options
		want string
	}{
		{"image alone", img, Options{}, "/ep x a b"},
		{"arguments replace CMD", img, Options{Args: []string{"c"}}, "/ep x c"},
		{"entrypoint drops CMD", img, Options{Entrypoint: &sh}, "/bin/sh"},
		{"entrypoint with arguments", img, Options{Entrypoint: &sh, Args: []string{"-c", "y"}}, "/bin/sh -c y"},
		{"entrypoint cleared", img, Options{Entrypoint: &empty, Args: []string{"ls"}}, "ls"},
		{"only CMD", image.Config{Cmd: []string{"/bin/sh", "-c", "z"}}, Options{}, "/bin/sh -c z"},
	} {
		got, err := command(&tc.img, &tc.o)
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: got %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
	for _, o := range []Options{{Entrypoint: &empty}, {Args: []string{""}}} {
		if got, err := command(&image.Config{}, &o); err == nil {
			t.Errorf("no error for an empty command, got %q", got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# c\n\n  ONE=1\nSP=a b  c\nQ=\"q\"\nFROM\nNONE\nTWO=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FROM", "caller")
	os.Unsetenv("NONE")
	got, err := environment([]string{"A=1", "B=two", "GONE=x", "EMPTY="},
		&Options{TTY: true, EnvFile: []string{file}, Env: []string{"A=over", "TWO=flag", "GONE", "Y=a=b"}}, "box", "/home/x")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"A=over", "B=two", "EMPTY=", defaultPath, "HOSTNAME=box", "TERM=xterm",
		"ONE=1", "SP=a b  c", `Q="q"`, "FROM=caller", "TWO=flag", "Y=a=b", "HOME=/home/x"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := environment(nil, &Options{Env: []string{"=x"}}, "", ""); err == nil {
		t.Error("no error for a variable without a name")
	}
}

func TestParseVolume(t *testing.T) {
	wd, _ := os.Getwd()
	for spec, want := range map[string]MountPoint{
		"/a:/b":              {Type: "bind", Source: "/a", Destination: "/b", RW: true},
		"/a:/b:ro,rshared":   {Type: "bind", Source: "/a", Destination: "/b", Propagation: "rshared"},
		"./x:/b/:z":          {Type: "bind", Source: wd + "/x", Destination: "/b", RW: true},
		"vol:/b:ro":          {Type: "volume", Name: "vol", Destination: "/b"},
		"vol:/b:nocopy":      {Type: "volume", Name: "vol", Destination: "/b", RW: true, Options: []string{"nocopy"}},
		"/anon":              {Type: "volume", Destination: "/anon", RW: true, Anonymous: true},
		"/a/../b:/c/./d/../": {Type: "bind", Source: "/b", Destination: "/c", RW: true},
	} {
		w, err := parseVolume(spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		} else if d := cmp.Diff(want, w.MountPoint); d != "" {
			t.Errorf("%s: %s", spec, d)
		}
	}
	for _, spec := range []string{"", "a", "rel/x:/b", "/a:b", "/a:/b:bad", "/a:/", ":/b", "/a:/b:ro:x", "/a:/b:shared,slave", "/a:/b:idmap"} {
		if w, err := parseVolume(spec); err == nil {
			t.Errorf("%q: no error, got %+v", spec, w)
		}
	}
}

func TestParseMount(t *testing.T) {
	for spec, want := range map[string]MountPoint{
		"type=bind,source=/a,target=/x,readonly":               {Type: "bind", Source: "/a", Destination: "/x"},
		"type=bind,src=/a,dst=/x,bind-propagation=rslave":      {Type: "bind", Source: "/a", Destination: "/x", RW: true, Propagation: "rslave"},
		"source=v1,destination=/x":                             {Type: "volume", Name: "v1", Destination: "/x", RW: true},
		"type=volume,source=vv,target=/x,volume-nocopy":        {Type: "volume", Name: "vv", Destination: "/x", RW: true, Options: []string{"nocopy"}},
		"type=volume,target=/x":                                {Type: "volume", Destination: "/x", RW: true, Anonymous: true},
		"type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1770":      {Type: "tmpfs", Destination: "/t", RW: true, Options: []string{"size=2097152", "mode=1770"}},
		`type=bind,"source=/a,b",target=/x`:                    {Type: "bind", Source: "/a,b", Destination: "/x", RW: true},
		"type=bind,source=/a,target=/x,readonly=false,rw=true": {Type: "bind", Source: "/a", Destination: "/x", RW: true},
	} {
		w, err := parseMount(spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		} else if d := cmp.Diff(want, w.MountPoint); d != "" {
			t.Errorf("%s: %s", spec, d)
		}
	}
	for _, spec := range []string{"", "type=nfs,target=/x", "type=bind,target=/x", "type=bind,source=/a", "type=tmpfs,source=/a,target=/x",
		"type=bind,source=/a,target=x", "type=bind,source=/a,target=/x,foo=1", "type=bind,source=/a,target=/x,tmpfs-size=1m", "readonly,foo"} {
		if w, err := parseMount(spec); err == nil {
			t.Errorf("%q: no error, got %+v", spec, w)
		}
	}
}

func TestMountWishesOrder(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	got, err := s.mountWishes(&Options{Volumes: []string{"/h:/a/b/c", "/h:/a"}, Tmpfs: []string{"/vol:size=1m"}},
		map[string]struct{}{"/vol": {}, "/z/": {}, "/": {}})
	if err != nil {
		t.Fatal(err)
	}
	var dst []string
	for _, w := range got {
		dst = append(dst, w.Type+" "+w.Destination)
	}
	want := []string{"bind /a", "tmpfs /vol", "volume /z", "bind /a/b/c"}
	if d := cmp.Diff(want, dst); d != "" {
		t.Error(d)
	}
	if _, err := s.mountWishes(&Options{Volumes: []string{"/h:/a", "/i:/a/"}}, nil); err == nil {
		t.Error("no error for two mounts at one place")
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"1m": 1 << 20, "64MB": 64 << 20, "1.5g": 3 << 29, "100": 100, "10b": 10, "2KiB": 2048} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%s: got %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", "-1m", "1mm", "NaN", "inf"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q: no error, got %d", s, got)
		}
	}
}

func TestCaps(t *testing.T) {
	all := uint64(1<<41 - 1)
	if got := capList(defaultCaps); len(got) != 14 || got[0] != "CAP_CHOWN" || got[13] != "CAP_SETFCAP" {
		t.Errorf("default: %v", got)
	}
	for _, tc := range []struct {
		add, drop []string
		priv      bool
		bound     uint64
		want      uint64
	}{
		{nil, nil, false, all, defaultCaps},
		{nil, []string{"all"}, false, all, 0},
		{[]string{"NET_BIND_SERVICE"}, []string{"ALL"}, false, all, 1 << 10},
		{[]string{"cap_sys_admin"}, nil, false, all, defaultCaps | 1<<21},
		{[]string{"all"}, []string{"CAP_CHOWN"}, false, all, all &^ 1},
		{nil, nil, true, all &^ (1 << 24), all &^ (1 << 24)},
		{nil, nil, false, 1, 1},
	} {
		got, err := capSet(tc.add, tc.drop, tc.priv, tc.bound)
		if err != nil || got != tc.want {
			t.Errorf("add %v drop %v: %x, %v, want %x", tc.add, tc.drop, got, err, tc.want)
		}
	}
	if _, err := capSet([]string{"nope"}, nil, false, all); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("unknown capability: %v", err)
	}
	if _, err := capSet([]string{"SYS_RESOURCE"}, nil, false, all&^(1<<24)); err == nil {
		t.Error("no error for a capability that berth does not have")
	}
}

func TestSysctls(t *testing.T) {
	if _, err := sysctls(&Options{Network: "none", Sysctls: []string{"net.ipv4.ip_default_ttl=33", "kernel.msgmax=1", "fs.mqueue.msg_max=5"}}); err != nil {
		t.Error(err)
	}
	for _, o := range []Options{
		{Sysctls: []string{"vm.swappiness=7"}}, {Sysctls: []string{"kernel.hostname=x"}}, {Sysctls: []string{"net.x"}},
		{Network: "host", Sysctls: []string{"net.ipv4.ip_forward=1"}}, {IPC: "host", Sysctls: []string{"kernel.shmmax=1"}},
	} {
		if _, err := sysctls(&o); err == nil {
			t.Errorf("%v with network %q ipc %q: no error", o.Sysctls, o.Network, o.IPC)
		}
	}
}

func TestRlimits(t *testing.T) {
	got, err := rlimits([]string{"nofile=100:200", "core=0", "memlock=-1"})
	if err != nil || got[0].Hard != 200 || got[1].Type != "RLIMIT_CORE" || got[2].Soft != ^uint64(0) {
		t.Error(got, err)
	}
	for _, s := range []string{"nofile", "nofile=x", "foo=1", "nofile=2:1"} {
		if _, err := rlimits([]string{s}); err == nil {
			t.Errorf("%s: no error", s)
		}
	}
}

func TestSecurityOptions(t *testing.T) {
	s, err := parseSecurity([]string{"no-new-privileges", "seccomp=unconfined", "apparmor=unconfined", "label=disable", "label:type:x"})
	if err != nil || !s.noNewPrivs || s.seccomp != "unconfined" {
		t.Error(s, err)
	}
	// a profile that is not enforced must not be taken without a word
	s, err = parseSecurity([]string{"apparmor=docker-default"})
	switch {
	case appArmor() && (err != nil || s.apparmor != "docker-default"):
		t.Error(s, err)
	case !appArmor() && (err == nil || !strings.Contains(err.Error(), "AppArmor is not enabled")):
		t.Error(err)
	}
	if l := securityLabels(&specs.Process{ApparmorProfile: "p"}); l.Exec != "exec p" {
		t.Error(l)
	}
	for _, o := range []string{"foo", "apparmor=", "no-new-privileges=maybe"} {
		if _, err := parseSecurity([]string{o}); err == nil {
			t.Errorf("%s: no error", o)
		}
	}
}

func TestParseDevice(t *testing.T) {
	for spec, want := range map[string][3]string{
		"/dev/a": {"/dev/a", "/dev/a", "rwm"}, "/dev/a:/dev/b": {"/dev/a", "/dev/b", "rwm"},
		"/dev/a:/dev/b:r": {"/dev/a", "/dev/b", "r"}, "/dev/a:rw": {"/dev/a", "/dev/a", "rw"},
	} {
		h, c, a, err := parseDevice(spec)
		if got := [3]string{h, c, a}; err != nil || got != want {
			t.Errorf("%s: %v %v", spec, got, err)
		}
	}
	for _, spec := range []string{"dev", "/dev/a:b:r", "/dev/a:/dev/b:x", "/a:/b:/c:r"} {
		if _, _, _, err := parseDevice(spec); err == nil {
			t.Errorf("%s: no error", spec)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]int{"9": 9, "KILL": 9, "SIGKILL": 9, "kill": 9, "sigusr1": 10, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63} {
		if got, err := ParseSignal(s); err != nil || int(got) != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "FOO", "RTMIN+40"} {
		if got, err := ParseSignal(s); err == nil {
			t.Errorf("%q: no error, got %d", s, got)
		}
	}
}

func TestRestartPolicy(t *testing.T) {
	for s, want := range map[string]string{"": "no 0", "no": "no 0", "always": "always 0", "on-failure:3": "on-failure 3"} {
		n, k, err := restartPolicy(s)
		if got := n + " " + string(rune('0'+k)); err != nil || got != want {
			t.Errorf("%s: %s %v", s, got, err)
		}
	}
	for _, s := range []string{"often", "always:3", "on-failure:x", "on-failure:-1"} {
		if _, _, err := restartPolicy(s); err == nil {
			t.Errorf("%s: no error", s)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	keys, err := parseDetachKeys("")
	if err != nil || !reflect.DeepEqual(keys, []byte{16, 17}) {
		t.Fatal(keys, err)
	}
	d := &detachKeys{keys: keys}
	for _, step := range []struct {
		in, out string
		leave   bool
	}{{"ab\x10", "ab", false}, {"c", "\x10c", false}, {"\x10\x10", "\x10", false}, {"\x11more", "", true}} {
		out, leave := d.filter([]byte(step.in))
		if string(out) != step.out || leave != step.leave {
			t.Errorf("%q: %q %v", step.in, out, leave)
		}
		if leave {
			break
		}
	}
	if k, err := parseDetachKeys("ctrl-a,d"); err != nil || string(k) != "\x01d" {
		t.Error(k, err)
	}
	if _, err := parseDetachKeys("ctrl-"); err == nil {
		t.Error("no error for ctrl-")
	}
}

func TestLimits(t *testing.T) {
	i := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		o    Options
		want cgroups.Limits
	}{
		"memory":    {Options{Memory: 64 << 20}, cgroups.Limits{MemoryMax: i(64 << 20), MemorySwapMax: i(64 << 20)}},
		"swap":      {Options{Memory: 64 << 20, MemorySwap: i(96 << 20), MemoryReservation: 32 << 20}, cgroups.Limits{MemoryMax: i(64 << 20), MemorySwapMax: i(32 << 20), MemoryLow: i(32 << 20)}},
		"no swap":   {Options{Memory: 64 << 20, MemorySwap: i(64 << 20)}, cgroups.Limits{MemoryMax: i(64 << 20), MemorySwapMax: i(0)}},
		"free swap": {Options{Memory: 64 << 20, MemorySwap: i(-1)}, cgroups.Limits{MemoryMax: i(64 << 20), MemorySwapMax: i(-1)}},
		"cpus":      {Options{CPUs: 0.2, CPUShares: 1024}, cgroups.Limits{CPUQuota: 20000, CPUPeriod: 100000, CPUWeight: 39}},
		"quota":     {Options{CPUQuota: 5000, CPUPeriod: 50000, CpusetCPUs: "0"}, cgroups.Limits{CPUQuota: 5000, CPUPeriod: 50000, CPUs: "0"}},
		"pids":      {Options{PidsLimit: i(20)}, cgroups.Limits{PidsMax: i(20)}},
		"no pids":   {Options{PidsLimit: i(-1)}, cgroups.Limits{}},
		"blkio":     {Options{BlkioWeight: 500}, cgroups.Limits{Unified: map[string]string{"io.weight": "4950"}}},
	} {
		got, err := limits(&tc.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	for _, o := range []Options{{Memory: 1000}, {Memory: -5}, {MemorySwap: i(1 << 30)}, {Memory: 64 << 20, MemorySwap: i(1 << 20)},
		{CPUs: 1, CPUQuota: 5}, {CPUs: -1}, {BlkioWeight: 5}, {Memory: 64 << 20, MemoryReservation: 65 << 20}} {
		if got, err := limits(&o); err == nil {
			t.Errorf("%+v: no error, got %+v", o, got)
		}
	}
}
