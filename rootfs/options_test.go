package rootfs

import (
	"slices"
	"testing"
)

// What is declared as known must not reach a file system as data.
func TestMountOptions(t *testing.T) {
	if !slices.IsSorted(MountOptions()) {
		t.Error("not sorted")
	}
	for _, name := range MountOptions() {
		o := parseOptions([]string{name})
		if len(o.data) > 0 {
			t.Errorf("%s: not understood (%v)", name, o)
		}
	}
	if o := parseOptions([]string{"mode=755"}); len(o.data) != 1 {
		t.Errorf("mode=755 is taken for an option of the mount: %v", o)
	}
}
