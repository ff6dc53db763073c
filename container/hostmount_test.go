package container

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/berth-run/berth/runtime/engine"
)

// The root file system on the host is the same by either interface of the kernel.
func TestOverlayOnTheHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts are made by root: run as root")
	}
	c := &Container{store: &Store{Root: t.TempDir()}}
	c.ID, c.Lower = "abc", []string{"layers/low", "layers/a:b"}
	c.dir = c.store.dir(c.ID)
	for path, text := range map[string]string{"layers/low/x": "hidden", "layers/low/l": "low", "layers/a:b/x": "top", "containers/abc/upper/u": "own", "containers/abc/work/.": ""} {
		path = c.store.Root + "/" + path
		if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			os.WriteFile(path, []byte(text), 0o644)
		}
	}
	old := func(writable bool) func() (*os.File, error) {
		return func() (*os.File, error) {
			return inMountNamespace(ownMounts, func() (*os.File, error) { return c.mountAndClone(writable) })
		}
	}
	ways := map[string]func() (*os.File, error){"mount, read-only": old(false), "mount": old(true)}
	if engine.LayersOneByOne() {
		ways["fsconfig, read-only"] = func() (*os.File, error) { return c.overlay("") }
		ways["fsconfig"] = func() (*os.File, error) { return c.overlay(c.dir + "/upper") }
	} else {
		t.Log("overlayfs does not take layers one by one here (Linux 6.8): the way with fsconfig is left out")
	}
	for name, way := range ways {
		tree, err := way()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		at := fmt.Sprintf("/proc/self/fd/%d/", tree.Fd())
		for file, want := range map[string]string{"x": "top", "l": "low", "u": "own"} {
			if got, err := os.ReadFile(at + file); string(got) != want || err != nil {
				t.Errorf("%s: %s is %q, %v", name, file, got, err)
			}
		}
		if err := os.WriteFile(at+"new", nil, 0o644); (err != nil) != strings.HasSuffix(name, "read-only") {
			t.Errorf("%s: write: %v", name, err)
		}
		tree.Close()
	}
	if mounted(c.dir) {
		t.Error("the mount is seen on the host")
	}
	c.Lower = slices.Repeat(c.Lower, 400)
	if _, err := old(true)(); !errors.Is(err, ErrManyLayers) {
		t.Errorf("800 layers: %v", err)
	}
}
