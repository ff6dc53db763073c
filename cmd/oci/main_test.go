package oci

import (
	"bytes"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func fields(s string) iter.Seq[string] { return strings.FieldsSeq(s) }

func names(o option) iter.Seq[string] { return strings.SplitSeq(o.names, ",") }

// testCall is a call of a program named runc with a root of its own; the log is
// a file.
func testCall(t *testing.T) (*call, *bytes.Buffer) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	var out bytes.Buffer
	c := newCall("/usr/sbin/runc", &out, log)
	c.store.Root = t.TempDir()
	return c, &out
}

func TestHelp(t *testing.T) {
	for _, c := range []struct {
		args        string
		first, next string // lines
	}{
		{"", "NAME:", "   runc - Open Container Initiative runtime"},
		{"-h", "NAME:", "   runc - Open Container Initiative runtime"},
		{"--help", "NAME:", "   runc - Open Container Initiative runtime"},
		{"help", "NAME:", "   runc - Open Container Initiative runtime"},
		{"checkpoint --help", "NAME:", "   runc checkpoint - save"},
		{"restore -h", "NAME:", "   runc restore - make"},
		{"help exec", "NAME:", "   runc exec - execute"},
		{"exec -h", "NAME:", "   runc exec - execute"},
	} {
		call, out := testCall(t)
		status, err := call.dispatch(strings.Fields(c.args))
		lines := strings.Split(out.String(), "\n")
		if status != 0 || err != nil || lines[0] != c.first || !strings.HasPrefix(lines[1], c.next) {
			t.Errorf("%q: status %d, error %v, prints\n%s", c.args, status, err, out)
		}
	}
	for _, e := range commands() {
		call, out := testCall(t)
		if status, err := call.dispatch([]string{e.name, "--help"}); status != 0 || err != nil || !strings.Contains(out.String(), "\nUSAGE:\n   runc "+e.name) {
			t.Errorf("%s --help: status %d, error %v, prints\n%s", e.name, status, err, out)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		err    string
		out    string // it begins with
	}{
		{"foo", 3, "No help topic for 'foo'", ""},
		{"foo -h", 3, "No help topic for 'foo'", ""},
		{"help foo", 3, "No help topic for 'foo'", ""},
		{"--nosuch", 1, "flag provided but not defined: -nosuch", "Incorrect Usage. flag provided but not defined: -nosuch\n\nNAME:\n   runc - "},
		{"kill --nosuch", 1, "flag provided but not defined: -nosuch", "Incorrect Usage: flag provided but not defined: -nosuch\n\nNAME:\n   runc kill"},
		{"kill", 1, `/usr/sbin/runc: "kill" requires a minimum of 1 argument(s)`, "Incorrect Usage.\n\nNAME:"},
		{"kill a b c", 1, `/usr/sbin/runc: "kill" requires a maximum of 2 argument(s)`, "Incorrect Usage.\n\nNAME:"},
		{"state", 1, `/usr/sbin/runc: "state" requires exactly 1 argument(s)`, "Incorrect Usage.\n\nNAME:"},
		{"list x", 1, `/usr/sbin/runc: "list" requires exactly 0 argument(s)`, "Incorrect Usage.\n\nNAME:"},
		{"exec", 1, `/usr/sbin/runc: "exec" requires a minimum of 1 argument(s)`, "Incorrect Usage.\n\nNAME:"},
		{"--root / list", 1, "Option --root argument should not be set to /", ""},
		{"--log-format x list", 1, "invalid log-format: x", ""},
		{"--log /nosuch/log list", 1, "open /nosuch/log: no such file or directory", ""},
		{"--rootless x list", 1, `strconv.ParseBool: parsing "x": invalid syntax`, ""},
		{"--cgroup-manager x list", 1, `unknown cgroup manager "x"`, ""},
		{"--root /nosuch list", 1, "open /nosuch: no such file or directory", ""},
		{"run --bundle /nosuch x", 1, "runc run failed: chdir /nosuch: no such file or directory", ""},
		{"create --bundle /dev x", 1, "runc create failed: JSON specification file config.json not found", ""},
		{"exec --cgroup", 1, "flag needs an argument: -cgroup", "Incorrect Usage: flag needs"},
	} {
		call, out := testCall(t)
		t.Chdir(t.TempDir())
		status, err := call.dispatch(strings.Fields(c.args))
		if status == 0 { // Main's
			status = 1
		}
		if err == nil || err.Error() != c.err || status != c.status {
			t.Errorf("%q: status %d, error %v, want %d, %s", c.args, status, err, c.status, c.err)
		}
		if !strings.HasPrefix(out.String(), c.out) || c.out == "" && out.Len() > 0 {
			t.Errorf("%q prints\n%s", c.args, out)
		}
	}
	call, _ := testCall(t)
	if _, err := call.dispatch([]string{"state", ""}); err == nil || err.Error() != "container id cannot be empty" {
		t.Errorf("an empty id: %v", err)
	}
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"-v", "--version"} {
		c, out := testCall(t)
		if status, err := c.dispatch([]string{flag}); status != 0 || err != nil {
			t.Errorf("%s: %d, %v", flag, status, err)
		}
		if !regexp.MustCompile(`^runc version \d+\.\d+\.\d+\S*\ncommit: \S+\nspec: \d+\.\d+\.\d+\ngo: go\S+\n$`).MatchString(out.String()) {
			t.Errorf("%s prints\n%s", flag, out)
		}
	}
}

func TestRoot(t *testing.T) {
	given, run := "some/dir", t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	c, _ := testCall(t)
	t.Chdir(run)
	if err := c.setRoot(&given); err != nil || c.store.Root != filepath.Join(run, given) || !c.rootSet {
		t.Errorf("--root %s: %s, %v", given, c.store.Root, err)
	}
	if err := c.setRoot(nil); err != nil || c.rootSet {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && !inUserNamespace() {
		if c.store.Root != "/run/berth-oci" {
			t.Errorf("root of root: %s", c.store.Root)
		}
		return
	}
	st, err := os.Stat(run + "/berth-oci")
	if c.store.Root != run+"/berth-oci" || err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o700 {
		t.Errorf("root of a user: %s, %v, %v", c.store.Root, st, err)
	}
}

func TestInitialMap(t *testing.T) {
	for s, want := range map[string]bool{
		"         0          0 4294967295\n": true,
		"         0       1000          1\n": false,
		"         0          0      65536\n": false,
		"0 1000 1\n1 100000 65536\n":         false,
	} {
		if initialMap(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func TestRootless(t *testing.T) {
	for s, want := range map[string]bool{"true": true, "false": false, "1": true} {
		if got, err := rootless(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	auto, err := rootless("")
	same, err2 := rootless("AUTO")
	if err != nil || err2 != nil || auto != same || auto != (os.Geteuid() != 0 || inUserNamespace()) {
		t.Errorf("auto: %v, %v, %v, %v", auto, same, err, err2)
	}
}

// The last error of a call is in the log; callers also find it on stderr when
// the log is a file.
func TestFatal(t *testing.T) {
	c, _ := testCall(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := c.log.open(file); err != nil {
		t.Fatal(err)
	}
	c.log.json = true
	c.log.fatal("container does not exist")
	stderr, err := os.ReadFile(c.log.stderr.Name())
	if err != nil || string(stderr) != "container does not exist\n" {
		t.Errorf("stderr: %q, %v", stderr, err)
	}
	log, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(log), `{"level":"error","msg":"container does not exist","time":"`) {
		t.Errorf("log: %q, %v", log, err)
	}
}
