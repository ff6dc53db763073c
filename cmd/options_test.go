package cmd

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

// options reads the command line of run as berth does.
func options(t *testing.T, args ...string) (o container.Options, err error) {
	t.Helper()
	a := &app{out: &results{w: io.Discard}, errw: io.Discard}
	e := entry{name: "run", max: -1, literal: true, build: func(a *app) *cli.Command {
		c := a.runCommand()
		c.Action = func(c *cli.Context) (err error) { o, err = containerOptions(c); return err }
		return c
	}}
	err = a.runEntry(&e, "berth run", args)
	return o, err
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		args string
		got  func(o container.Options) any
		want any
	}{
		{"-m 64m i", func(o container.Options) any { return o.Memory }, int64(64 << 20)},
		{"-m 1.5g i", func(o container.Options) any { return o.Memory }, int64(3 << 29)},
		{"-m 7000000 i", func(o container.Options) any { return o.Memory }, int64(7000000)},
		{"--memory-swap -1 i", func(o container.Options) any { return *o.MemorySwap }, int64(-1)},
		{"--memory-swap 1g i", func(o container.Options) any { return *o.MemorySwap }, int64(1 << 30)},
		{"--cpus 0.5 i", func(o container.Options) any { return o.CPUs }, 0.5},
		{"--pids-limit -1 i", func(o container.Options) any { return *o.PidsLimit }, int64(-1)},
		{"--entrypoint= i", func(o container.Options) any { return *o.Entrypoint }, ""},
		{"i", func(o container.Options) any { return o.Entrypoint }, (*string)(nil)},
		{"i", func(o container.Options) any { return o.SigProxy }, true},
		{"--sig-proxy=false i", func(o container.Options) any { return o.SigProxy }, false},
		{"-e a=1,2 -e b i", func(o container.Options) any { return o.Env }, []string{"a=1,2", "b"}},
		{"--mount type=bind,src=/a,dst=/b i", func(o container.Options) any { return o.Mounts }, []string{"type=bind,src=/a,dst=/b"}},
		{"--dns 192.0.2.1 --dns fd00::1 i", func(o container.Options) any { return len(o.DNS) }, 2},
		{"--net host i", func(o container.Options) any { return o.Network }, "host"},
		{"i -it --rm", func(o container.Options) any { return o.Args }, []string{"-it", "--rm"}},
		{"i ls help", func(o container.Options) any { return o.Args }, []string{"ls", "help"}},
		{"-h web -l a=b i", func(o container.Options) any { return o.Hostname + o.Labels[0] }, "weba=b"},
		{"--stop-timeout 3 i", func(o container.Options) any { return *o.StopTime }, 3},
	} {
		o, err := options(t, strings.Fields(tc.args)...)
		if err != nil {
			t.Errorf("%s: %v", tc.args, err)
		} else if got := tc.got(o); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %#v, want %#v", tc.args, got, tc.want)
		}
	}
}

func TestOptionsKeepBlanks(t *testing.T) {
	o, err := options(t, "-e", " A = 1 ", "--label", "x= y ", "i", " a ", "")
	if err != nil || o.Env[0] != " A = 1 " || o.Labels[0] != "x= y " || len(o.Args) != 2 || o.Args[0] != " a " {
		t.Errorf("got %q %q %q, %v", o.Env, o.Labels, o.Args, err)
	}
}

func TestOptionsErrors(t *testing.T) {
	for _, args := range []string{
		"--memory=nonsense", "--memory=-5m", "--memory=", "--memory=1x", "--memory=0x10", "--memory=nan", "--memory=1e400",
		"--cpus=abc", "--cpus=-1", "--cpus=NaN", "--cpus=inf", "--pids-limit=x", "--pids-limit=-2", "--memory-swap=1x",
		"--shm-size=-1", "--cpu-shares=-1", "--oom-score-adj=2000", "--stop-timeout=x", "--dns=nope", "--pull=sometimes",
		"--blkio-weight=99999", "--memory-swap=-2",
	} {
		_, err := options(t, args, "i")
		var f *failure
		if !errors.As(err, &f) || f.code != 125 {
			t.Errorf("%s: got %v", args, err)
			continue
		}
		flag, _, _ := strings.Cut(args, "=")
		if !strings.Contains(f.text, flag) || strings.Contains(f.text, "\n") {
			t.Errorf("%s: the message does not name the flag: %s", args, f.text)
		}
	}
}

// Every option of package container must be reachable by a flag.
func TestOptionsComplete(t *testing.T) {
	args := strings.Fields(`--name n -d --rm --cidfile f --pull never --platform p -it --detach-keys k -e A --env-file f -l a --label-file f
		-w /w -u 1 --group-add 2 --hostname h --domainname d --entrypoint e --stop-signal 9 --stop-timeout 1 -v /v --mount m --tmpfs /t
		--volumes-from c --shm-size 1 --read-only --network none -p 1 -P --add-host a:1 --dns ::1 --dns-search s --dns-option o --pid host
		--ipc host --uts host --cgroupns host --cap-add A --cap-drop B --privileged --security-opt x --init --ulimit u --sysctl s
		--device d --oom-score-adj 1 -m 1g --memory-swap 2g --memory-reservation 1m --cpus 1 --cpu-shares 2 --cpu-period 1000
		--cpu-quota 1000 --cpuset-cpus 0 --cpuset-mems 0 --pids-limit 1 --blkio-weight 10 --restart no --explain --expose 1
		--mac-address m --annotation a=b image arg`)
	o, err := options(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(o)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("no flag sets Options.%s", v.Type().Field(i).Name)
		}
	}
}
