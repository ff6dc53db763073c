package container

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/step"
)

// The root file system on the host is the same by either interface of the kernel.
func TestOverlayOnTheHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts are made by root: run as root")
	}
	c := &Container{store: &Store{Root: t.TempDir() + strings.Repeat("/long", 60)}} // fsconfig(2) takes 255 bytes
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
	by := func(enter func() error, take func(step.Overlay) (*os.File, error), o step.Overlay) func() (*os.File, error) {
		o.Base, o.Target = c.store.Root, "containers/abc"
		return func() (*os.File, error) {
			return inMountNamespace(enter, func() (*os.File, error) { return take(o) })
		}
	}
	own := "containers/abc/"
	readOnly := step.Overlay{Lower: []string{own + "upper", "layers/a:b", "layers/low"}}
	writable := step.Overlay{Lower: []string{"layers/a:b", "layers/low"}, Upper: own + "upper", Work: own + "work"}
	ways := map[string]func() (*os.File, error){
		"overlay, read-only": func() (*os.File, error) { return c.overlay(false) }, "overlay": func() (*os.File, error) { return c.overlay(true) },
		"mount, read-only": by(ownMounts, mountAndClone, readOnly), "mount": by(ownMounts, mountAndClone, writable),
	}
	if engine.LayersOneByOne() {
		ways["fsconfig, read-only"], ways["fsconfig"] = by(sameMounts, detached, readOnly), by(sameMounts, detached, writable)
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
	writable.Lower = slices.Repeat(writable.Lower, 400)
	if _, err := by(ownMounts, mountAndClone, writable)(); !errors.Is(err, ErrManyLayers) {
		t.Errorf("800 layers: %v", err)
	}
}
