package oci

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]unix.Signal{
		"9": 9, "0": 0, "KILL": 9, "SIGKILL": 9, "kill": 9, "sigterm": 15, "TERM": 15, "USR1": 10, "37": 37,
		"RTMIN": 34, "RTMIN+3": 37, "SIGRTMAX": 64, "rtmax-1": 63,
	} {
		if got, err := parseSignal(s); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"x", "", "SIG", "KILL9", "RTMIN+31", "RTMAX+1", "RTMIN-1", "9x"} {
		if got, err := parseSignal(s); err == nil || err.Error() != `unknown signal "`+s+`"` {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "4096": 4096, "-1": -1, "1k": 1024, "1K": 1024, "1kb": 1024, "1KiB": 1024, "50M": 50 << 20, "1.5g": 3 << 29,
		"2 GB": 2 << 30, "3t": 3 << 40, "1P": 1 << 50, "7b": 7,
	} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "x", "-2", "1x", "1kk", "1ib", "k", "9000P", "1e"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
}

func TestUpdate(t *testing.T) {
	none := `"memory":{},"cpu":{},"pids":{},"blockIO":{}`
	for _, c := range []struct{ args, stdin, want, err string }{
		{args: "", want: "{" + none + "}"},
		{args: "--memory 50M --memory-swap -1 --memory-reservation 1k", want: `{"memory":{"limit":52428800,"reservation":1024,"swap":-1},"cpu":{},"pids":{},"blockIO":{}}`},
		{args: "--cpu-period 1000 --cpu-quota -1 --cpu-burst 5 --cpu-share 2 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-idle 0",
			want: `{"memory":{},"cpu":{"shares":2,"quota":-1,"burst":5,"period":1000,"cpus":"0-1","mems":"0","idle":0},"pids":{},"blockIO":{}}`},
		{args: "--cpu-rt-period 7 --cpu-rt-runtime 6", want: `{"memory":{},"cpu":{"realtimeRuntime":6,"realtimePeriod":7},"pids":{},"blockIO":{}}`},
		{args: "--pids-limit 0 --blkio-weight 500", want: `{"memory":{},"cpu":{},"pids":{"limit":0},"blockIO":{"weight":500}}`},
		{args: "--pids-limit -1 --cpu-share=", want: `{"memory":{},"cpu":{},"pids":{"limit":-1},"blockIO":{}}`},
		{args: "-r - --memory 1", stdin: `{"CPU":{"Cpus":"0"},"unified":{"cpu.idle":"1"},"memory":{"limit":7,"checkBeforeUpdate":true}}`,
			want: `{"memory":{"limit":7,"checkBeforeUpdate":true},"cpu":{"cpus":"0"},"pids":{},"blockIO":{},"unified":{"cpu.idle":"1"}}`},
		{args: "-r -", stdin: "{", err: "unexpected EOF"},
		{args: "-r /nosuch", err: "open /nosuch: no such file or directory"},
		{args: "--memory 1x", err: "invalid value for memory: invalid size: '1x'"},
		{args: "--cpu-quota x", err: `invalid value for cpu-quota: strconv.ParseInt: parsing "x": invalid syntax`},
		{args: "--cpu-share -1", err: `invalid value for cpu-share: strconv.ParseUint: parsing "-1": invalid syntax`},
	} {
		l := &limits{}
		if _, err := parse(l.options(), strings.Fields(c.args), false); err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		r, err := l.resources(strings.NewReader(c.stdin))
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: error %v, want %s", c.args, err, c.err)
			}
			continue
		}
		b, _ := json.Marshal(r)
		if err != nil || string(b) != c.want {
			t.Errorf("%s: %v, got\n%s, want\n%s", c.args, err, b, c.want)
		}
	}
}

func TestExecProcess(t *testing.T) {
	base := func() *specs.Process {
		return &specs.Process{Terminal: true, Cwd: "/", Env: []string{"A=1"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}}
	}
	for _, c := range []struct{ args, want, err string }{
		{args: "", want: `{"user":{"uid":0,"gid":0},"env":["A=1"],"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},"noNewPrivileges":true}`},
		{args: "-t -e B=2 --env A=,3 --cwd /x --no-new-privs=false --apparmor p --process-label l -c CAP_CHOWN",
			want: `{"terminal":true,"user":{"uid":0,"gid":0},"env":["A=1","B=2","A=,3"],"cwd":"/x",` +
				`"capabilities":{"bounding":["CAP_KILL","CAP_CHOWN"],"effective":["CAP_CHOWN"],"permitted":["CAP_CHOWN"]},"apparmorProfile":"p","selinuxLabel":"l"}`},
		{args: "-u 1000:100 -g 5 --additional-gids 65534",
			want: `{"user":{"uid":1000,"gid":100,"additionalGids":[5,65534]},"env":["A=1"],"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},"noNewPrivileges":true}`},
		{args: "-u 7", want: `{"user":{"uid":7,"gid":0},"env":["A=1"],"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},"noNewPrivileges":true}`},
		{args: "-u x", err: `bad uid: "x" is no id`},
		{args: "-u 1:x", err: `bad gid: "x" is no id`},
		{args: "-u 4294967295", err: `bad uid: "4294967295" is no id`},
		{args: "-g -1", err: "additional-gids must be a positive number -1"},
	} {
		f := &execFlags{}
		if _, err := parse(f.options(), strings.Fields(c.args), true); err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		p := base()
		err := f.change(p)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: error %v, want %s", c.args, err, c.err)
			}
			continue
		}
		b, _ := json.Marshal(p)
		if err != nil || string(b) != c.want {
			t.Errorf("%s: %v, got\n%s, want\n%s", c.args, err, b, c.want)
		}
	}
	p := base()
	p.Capabilities.Inheritable = []string{}
	addCapabilities(p, []string{"CAP_KILL"})
	if len(p.Capabilities.Ambient) != 1 {
		t.Error("a capability is not ambient although there are inheritable ones")
	}
}

func TestSubCgroup(t *testing.T) {
	for args, want := range map[string]string{"": "", "/": "/", "a/b": "a/b", "..": ".."} {
		if got, err := subCgroup(strings.Fields(args)); err != nil || got != want {
			t.Errorf("%s: %s, %v", args, got, err)
		}
	}
	for args, want := range map[string]string{
		"whaaat:/": "unknown controller whaaat in SubCgroupPaths", "cpu,pids:x": "unknown controller cpu in SubCgroupPaths",
		":x": "empty <controller> prefix", "a b": "missing <controller>: prefix",
	} {
		if _, err := subCgroup(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestCheckTerminal(t *testing.T) {
	c, _ := testCall(t)
	const without, useless = "cannot allocate tty if runc will detach without setting console socket", "cannot use console socket if runc will not detach or allocate tty"
	for _, v := range []struct {
		terminal, detach bool
		socket, want     string
	}{
		{false, false, "", ""}, {false, true, "", ""}, {true, false, "", ""}, {true, true, "s", ""},
		{true, true, "", without}, {true, false, "s", useless}, {false, true, "s", useless}, {false, false, "s", useless},
	} {
		err := c.checkTerminal(&specs.Process{Terminal: v.terminal}, v.socket, v.detach)
		if v.want == "" && err != nil || v.want != "" && (err == nil || err.Error() != v.want) {
			t.Errorf("%+v: %v", v, err)
		}
	}
}

func TestPassedDescriptors(t *testing.T) {
	p := &specs.Process{}
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDS", "2")
	if n, err := passed(p, 0); err != nil || n != 2 || strings.Join(p.Env, " ") != "LISTEN_FDS=2 LISTEN_PID=1" {
		t.Errorf("of a socket unit: %d, %v, %q", n, err, p.Env)
	}
	t.Setenv("LISTEN_PID", "1")
	p.Env = nil
	if n, err := passed(p, 0); err != nil || n != 0 || p.Env != nil {
		t.Errorf("of somebody else: %d, %v, %q", n, err, p.Env)
	}
	if _, err := passed(p, 5000); err == nil || !strings.HasPrefix(err.Error(), "unable to stat preserved-fd ") {
		t.Errorf("descriptors that are not there: %v", err)
	}
	if _, err := passed(p, -1); err == nil {
		t.Error("a negative number is no error")
	}
}
