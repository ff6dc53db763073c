package berth

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/berth-run/berth/"

// mayImport holds the arrows of docs/design.md: which of ours a package may use.
var mayImport = map[string][]string{
	"coldjson":        {},
	"mountinfo":       {},
	"runtime/signals": {},
	"runtime/step":    {},
	"runtime/child":   {"runtime/step"},
	"runtime/seccomp": {},
	"cgroups":         {"mountinfo"},
	"netns":           {},
	"resctrl":         {"mountinfo"},
	"image":           {"coldjson"},
	"image/registry":  {"image", "coldjson"},
	"rootfs":          {"runtime/step"},
	"runtime/engine":  {"mountinfo", "runtime/step", "runtime/child", "runtime/seccomp", "rootfs", "cgroups"},
	"runtime/criu":    {},
	"runtime":         {"mountinfo", "coldjson", "runtime/step", "runtime/engine", "runtime/seccomp", "runtime/criu", "rootfs", "cgroups", "resctrl"},
	"container":       {"runtime/signals", "coldjson", "runtime/engine", "runtime/seccomp", "runtime/step", "rootfs", "cgroups", "netns", "image"},
	"cmd/oci":         {"runtime/signals", "coldjson", "runtime", "runtime/engine", "runtime/seccomp", "runtime/step", "rootfs", "cgroups"},
	"cmd":             {"runtime/signals", "container", "image", "netns", "runtime/engine", "cgroups"},
	"cmd/berth/first": {"cmd/oci"},
	"cmd/berth-oci":   {"cmd/oci"},
	"cmd/berth/early": {"cmd"},
	"cmd/berth":       {"cmd", "cmd/berth/first", "cmd/berth/early", "image", "image/registry"},
}

// heavy packages cost every start of the binary; only cmd/berth and
// image/registry may link them.
var heavy = []string{"net/http", "crypto/tls", "github.com/google/go-containerregistry", "github.com/opencontainers/go-digest"}

func TestArrows(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		dir := filepath.Dir(path)
		allowed, known := mayImport[dir]
		if !known && dir != "." {
			t.Errorf("%s: a package that mayImport does not know", dir)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if ours, ok := strings.CutPrefix(name, module); ok && !contains(allowed, ours) {
				t.Errorf("%s imports %s", path, ours)
			}
			for _, h := range heavy {
				if strings.HasPrefix(name, h) && dir != "image/registry" && dir != "cmd/berth" {
					t.Errorf("%s imports %s, which every start would pay for", path, name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
