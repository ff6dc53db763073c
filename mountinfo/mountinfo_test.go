package mountinfo

import (
	"slices"
	"testing"
)

func TestAll(t *testing.T) {
	const list = `29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
715 712 8:1 /d /a\040b rw master:1 - ext4 /dev/sda rw
short
x 712 8:1 /d /b rw - ext4 /dev/sda rw
716 712 8:1 /d /c rw
`
	want := []Mount{{29, "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"}, {715, "/a b", "ext4", "rw"}}
	if got := slices.Collect(All(list)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for m := range All(list) {
		if m.ID != 29 {
			t.Error("it goes on after the caller has stopped")
		}
		break
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a\134b`: `/a\b`, `/a\`: `/a\`, `/a\09`: `/a\09`, `/a\999`: `/a\999`} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%s) = %s, want %s", in, got, want)
		}
	}
}
