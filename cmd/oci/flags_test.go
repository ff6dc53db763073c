package oci

import (
	"slices"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	type values struct {
		name  string
		force bool
		n     int
		list  []string
		wait  time.Duration
	}
	table := func(v *values) []option {
		return []option{text("name,b", "X", "", &v.name), yes("force,f", "", &v.force), number("count", "", &v.n),
			list("env,e", "X", "", &v.list), duration("interval", "", &v.wait)}
	}
	for _, c := range []struct {
		args    []string
		ordered bool
		want    values
		rest    []string
		help    bool
		err     string
	}{
		{args: []string{"--name", "v", "id"}, want: values{name: "v"}, rest: []string{"id"}},
		{args: []string{"-name=v=w", "id"}, want: values{name: "v=w"}, rest: []string{"id"}},
		{args: []string{"-b", "-f", "id"}, want: values{name: "-f"}, rest: []string{"id"}},
		{args: []string{"id", "--force", "9"}, want: values{force: true}, rest: []string{"id", "9"}},
		{args: []string{"-force=false", "id"}, rest: []string{"id"}},
		{args: []string{"id", "-9"}, rest: []string{"id", "-9"}},
		{args: []string{"id", "--", "--force"}, rest: []string{"id", "--force"}},
		{args: []string{"-e", "a,b", "--env", "c=d", "id", "ls", "-e", "x"}, ordered: true, want: values{list: []string{"a,b", "c=d"}}, rest: []string{"id", "ls", "-e", "x"}},
		{args: []string{"-"}, rest: []string{"-"}},
		{args: []string{"id", "-h"}, rest: []string{"id"}, help: true},
		{args: []string{"id", "sh", "-h"}, ordered: true, rest: []string{"id", "sh", "-h"}},
		{args: []string{"--count", "3", "--interval=100ms"}, want: values{n: 3, wait: 100 * time.Millisecond}},
		{args: []string{"--nosuch", "id"}, err: "flag provided but not defined: -nosuch"},
		{args: []string{"--name"}, err: "flag needs an argument: -name"},
		{args: []string{"-b"}, err: "flag needs an argument: -b"},
		{args: []string{"--count", "x"}, err: `invalid value "x" for flag -count: parse error`},
		{args: []string{"--count=99999999999999999999"}, err: `invalid value "99999999999999999999" for flag -count: value out of range`},
		{args: []string{"--force=maybe"}, err: `invalid boolean value "maybe" for flag -force: parse error`},
		{args: []string{"--interval", "x"}, err: `invalid value "x" for flag -interval: parse error`},
	} {
		var v values
		p, err := parse(table(&v), c.args, c.ordered)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%q: error %v, want %s", c.args, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if v.name != c.want.name || v.force != c.want.force || v.n != c.want.n || v.wait != c.want.wait || !slices.Equal(v.list, c.want.list) {
			t.Errorf("%q: %+v, want %+v", c.args, v, c.want)
		}
		if !slices.Equal(p.args, c.rest) || p.help != c.help {
			t.Errorf("%q: left %q, help %v, want %q, %v", c.args, p.args, p.help, c.rest, c.help)
		}
	}
}

// Every spelling that containerd, CRI-O, podman and BuildKit use must be known,
// and no two options of a command may claim one.
func TestOptions(t *testing.T) {
	used := map[string]string{
		"create":     "bundle b console-socket pid-file no-pivot no-new-keyring preserve-fds pidfd-socket config f no-subreaper",
		"run":        "bundle b console-socket pid-file no-pivot no-new-keyring preserve-fds pidfd-socket config f no-subreaper detach d keep",
		"exec":       "console-socket pidfd-socket cwd env e tty t user u additional-gids g process p detach d pid-file process-label apparmor no-new-privs cap c preserve-fds cgroup ignore-paused",
		"kill":       "all a",
		"delete":     "force f",
		"list":       "format f quiet q",
		"ps":         "format f",
		"events":     "interval stats",
		"spec":       "bundle b rootless",
		"update":     "resources r blkio-weight cpu-period cpu-quota cpu-burst cpu-share cpu-rt-period cpu-rt-runtime cpuset-cpus cpuset-mems kernel-memory kernel-memory-tcp memory cpu-idle memory-reservation memory-swap pids-limit l3-cache-schema mem-bw-schema",
		"checkpoint": "image-path work-path parent-path leave-running tcp-established tcp-skip-in-flight link-remap ext-unix-sk shell-job lazy-pages status-fd page-server file-locks pre-dump manage-cgroups-mode empty-ns auto-dedup",
		"restore":    "console-socket image-path work-path tcp-established ext-unix-sk shell-job file-locks manage-cgroups-mode bundle b detach d pid-file no-subreaper no-pivot empty-ns auto-dedup lazy-pages lsm-profile lsm-mount-context",
		"start":      "", "state": "", "pause": "", "resume": "", "features": "",
	}
	c, _ := testCall(t)
	if len(used) != len(commands()) {
		t.Errorf("%d commands, want %d", len(commands()), len(used))
	}
	for name, flags := range used {
		cmd := c.find(name)
		if cmd == nil {
			t.Errorf("no command %s", name)
			continue
		}
		for f := range fields(flags) {
			if find(cmd.options, f) == nil {
				t.Errorf("%s has no option %s", name, f)
			}
		}
		seen := map[string]bool{}
		for _, o := range cmd.options {
			for n := range names(o) {
				if seen[n] || n == "h" || n == "help" {
					t.Errorf("%s: two options have the name %s", name, n)
				}
				seen[n] = true
			}
		}
	}
	for f := range fields("debug log log-format root systemd-cgroup rootless criu cgroup-manager version v") {
		if find(globalOptions(&global{}), f) == nil {
			t.Errorf("no global option %s", f)
		}
	}
}
