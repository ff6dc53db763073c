package cmd

import (
	"errors"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func testFlags() []cli.Flag {
	return []cli.Flag{
		yes("interactive,i", "x"), yes("tty,t", "x"), yes("detach,d", "x"), yes("rm", "x"),
		list("env,e", "list", "x"), list("publish,p", "list", "x"), text("memory,m", "bytes", "x"),
		text("network,net", "string", "x"), text("workdir,w", "string", "x"), text("hostname,h", "string", "x"),
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, args string // blanks separate, _ stands for an empty argument
		literal    bool
		flags      string
		rest       string
	}{
		{"nothing", "", true, "", ""},
		{"combined bools", "-itd img", true, "--interactive=true --tty=true --detach=true", "img"},
		{"bools then a value", "-ite A=1 img", true, "--interactive=true --tty=true --env=A=1", "img"},
		{"attached value", "-eA=1 -w/tmp -p8080:80 -m64m img", true, "--env=A=1 --workdir=/tmp --publish=8080:80 --memory=64m", "img"},
		{"attached with equals", "-e=A=1 img", true, "--env=A=1", "img"},
		{"long with equals", "--env=A=b=c --network=none img", true, "--env=A=b=c --network=none", "img"},
		{"long with a blank", "--env A=1 --network none img", true, "--env=A=1 --network=none", "img"},
		{"alias", "--net none img", true, "--network=none", "img"},
		{"bool values", "--rm=false -d=true img", true, "--rm=false --detach=true", "img"},
		{"bool takes no next argument", "--rm false", true, "--rm=true", "false"},
		{"commas are not separators", "-e a,b -e c img", true, "--env=a,b --env=c", "img"},
		{"value that looks like a flag", "-e -x --network --rm img", true, "--env=-x --network=--rm", "img"},
		{"empty value", "--env= -w _ img", true, "--env= --workdir=", "img"},
		{"flags after the image are the command's", "--rm img -it --rm -- -d", true, "--rm=true", "img -it --rm -- -d"},
		{"double dash ends the flags", "--rm -- -it --x", true, "--rm=true", "-it --x"},
		{"a dash alone is an argument", "--rm - -it", true, "--rm=true", "- -it"},
		{"flags after names", "a -i b --rm", false, "--interactive=true --rm=true", "a b"},
		{"double dash among names", "a -i -- -t b", false, "--interactive=true", "a -t b"},
		{"-h where it is a flag", "-h web img", true, "--hostname=web", "img"},
	} {
		args := strings.Fields(tc.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", "")
		}
		p, err := parse(testFlags(), args, tc.literal)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := strings.Join(p.flags(), " "); got != tc.flags {
			t.Errorf("%s: flags %q, want %q", tc.name, got, tc.flags)
		}
		if got := strings.Join(p.args, " "); got != tc.rest {
			t.Errorf("%s: rest %q, want %q", tc.name, got, tc.rest)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ args, want, similar string }{
		{"--no-such-flag img", "unknown flag: --no-such-flag", ""},
		{"--netwrok none", "unknown flag: --netwrok", "--network"},
		{"-itx img", "unknown flag: -x", ""},
		{"-xit img", "unknown flag: -xit", ""},
		{"-x", "unknown flag: -x", ""},
		{"--e A=1 img", "unknown flag: --e", ""}, // a letter is no long flag
		{"--env", "flag needs an argument: --env", ""},
		{"-ite", "flag needs an argument: -e", ""},
		{"--rm=maybe img", `invalid value "maybe" for --rm: want true or false`, ""},
	} {
		_, err := parse(testFlags(), strings.Fields(tc.args), true)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got %v, want %s", tc.args, err, tc.want)
		}
		var u *unknownFlag
		if errors.As(err, &u) && tc.similar != "" && u.similar != tc.similar {
			t.Errorf("%s: suggests %q, want %q", tc.args, u.similar, tc.similar)
		}
	}
}

func TestParseHelp(t *testing.T) {
	for args, want := range map[string]bool{
		"--help": true, "--rm --help img": true, "img --help": false, "-e --help img": false, "-- --help": false,
	} {
		p, err := parse(testFlags(), strings.Fields(args), true)
		if err != nil || p.help != want {
			t.Errorf("%s: help %v, %v, want %v", args, p.help, err, want)
		}
	}
	p, err := parse([]cli.Flag{yes("all,a", "x")}, []string{"-ah"}, false)
	if err != nil || !p.help {
		t.Errorf("-ah: help %v, %v", p.help, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-itd\x00--env=A\x00-e\x00B\x00img\x00-x")
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, "\x00")
		p, err := parse(testFlags(), args, true)
		if err == nil && !p.help && len(p.args) > len(args) {
			t.Errorf("%q: more arguments than there were", s)
		}
	})
}
