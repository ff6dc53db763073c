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
		o, err := parseOptions([]string{name})
		if err != nil || len(o.data) > 0 {
			t.Errorf("%s: not understood (%v, %v)", name, o, err)
		}
	}
	if o, err := parseOptions([]string{"mode=755"}); err != nil || len(o.data) != 1 {
		t.Errorf("mode=755 is taken for an option of the mount: %v, %v", o, err)
	}
}
