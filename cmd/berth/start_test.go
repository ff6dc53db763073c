package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-run/berth/cmd"
	"github.com/berth-run/berth/cmd/oci"
)

// The registry client must not be initialised by commands that do not need it:
// see package early. The order in which packages are initialised is the
// linker's, so only the built binary can tell.
func TestEarlyStart(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "berth")
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", bin, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	inits := func(args ...string) string {
		c := exec.Command(bin, append([]string{"--root", t.TempDir()}, args...)...)
		c.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		out, _ := c.CombinedOutput() // pull fails, which is fine
		return string(out)
	}
	light := [][]string{{"version"}, {"run", "--help"}, {"run", "--nosuch"}}
	if os.Geteuid() == 0 {
		light = append(light, []string{"ps"}, []string{"run", "--rm", "--network", "none", "@host", "true"}, []string{"run", "--pull=never", "x"})
	} else {
		t.Log("not root: ps and run are left out")
	}
	for _, args := range light {
		out := inits(args...)
		if !strings.Contains(out, "\ninit github.com/berth-run/berth/cmd ") {
			t.Errorf("berth %v: no trace of package cmd:\n%s", args, out)
		}
		for _, heavy := range []string{"net/http", "github.com/google/go-containerregistry"} {
			if strings.Contains(out, "\ninit "+heavy) {
				t.Errorf("berth %v initialises %s", args, heavy)
			}
		}
	}
	for _, args := range [][]string{{"oci", "list"}, {"oci", "run", "--help"}} {
		out := ociInits(bin, args...)
		if !strings.Contains(out, "\ninit github.com/berth-run/berth/cgroups ") || !strings.Contains(out, "BUNDLE") && !strings.Contains(out, "USAGE:") {
			t.Errorf("berth %v: no trace of it:\n%s", args, out)
		}
		for _, heavy := range []string{"net/http", "github.com/urfave/cli", "github.com/berth-run/berth/cmd ", "google.golang.org/protobuf"} {
			if strings.Contains(out, "\ninit "+heavy) {
				t.Errorf("berth %v initialises %s", args, heavy)
			}
		}
	}
	if os.Geteuid() == 0 {
		if out := inits("pull", "127.0.0.1:1/x"); !strings.Contains(out, "\ninit net/http ") || !strings.Contains(out, "refused") {
			t.Errorf("pull does not get to the registry client:\n%s", out)
		}
	}
}

func ociInits(bin string, args ...string) string {
	c := exec.Command(bin, args...)
	c.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, _ := c.CombinedOutput() // what is missing is seen in the output
	return string(out)
}

// Both faces are of one program.
func TestVersions(t *testing.T) {
	if cmd.Version != oci.Version {
		t.Errorf("berth is %s, berth oci %s", cmd.Version, oci.Version)
	}
}
