package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProfilesAreKeptByContent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(file, []byte(`{"defaultAction": "SCMP_ACT_ALLOW"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := []string{"seccomp=" + file, "seccomp=unconfined", "no-new-privileges"}
	if err := inlineProfiles(opts); err != nil || !strings.HasPrefix(opts[0], "seccomp={") || opts[1] != "seccomp=unconfined" {
		t.Errorf("%q, %v", opts, err)
	}
	if err := inlineProfiles([]string{"seccomp=/no/such.json"}); err == nil {
		t.Error("a profile that is not there is accepted")
	}
	if err := inlineProfiles([]string{"seccomp=/etc/passwd"}); err == nil {
		t.Error("a file that is no profile is accepted")
	}
}

// The second start reads what the first compiled; a damaged file is made anew.
func TestDefaultFilterIsKept(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	c := &Container{store: s}
	a, err := c.filter(true)
	if err != nil || a == nil {
		t.Fatal(a, err)
	}
	files, _ := filepath.Glob(s.Root + "/seccomp/*")
	if len(files) != 1 {
		t.Fatalf("files: %v", files)
	}
	same := func(what string) {
		t.Helper()
		b, err := c.filter(true)
		if err != nil || string(b.Bytes()) != string(a.Bytes()) || b.Flags != a.Flags {
			t.Errorf("%s: another filter, %v", what, err)
		}
	}
	same("read back")
	if err := os.Truncate(files[0], 40); err != nil {
		t.Fatal(err)
	}
	same("damaged")
	c.Options.CapAdd = []string{"SYS_ADMIN"}
	if b, err := c.filter(true); err != nil || string(b.Bytes()) == string(a.Bytes()) {
		t.Errorf("more capabilities, the same filter, %v", err)
	}
	c.Options.Privileged = true
	if b, err := c.filter(true); b != nil || err != nil {
		t.Errorf("privileged: %v, %v", b, err)
	}
}
