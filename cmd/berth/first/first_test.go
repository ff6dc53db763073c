package first

import (
	"slices"
	"testing"
)

func TestFace(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"berth", "run", "x"}, nil},
		{[]string{"/usr/bin/berth"}, nil},
		{[]string{"/usr/bin/berth", "--root", "x", "oci"}, nil},
		{[]string{"first.test", "oci"}, nil},
		{[]string{"/opt/my-oci/berth", "run"}, nil},
		{[]string{"/usr/bin/berth-oci", "run", "x"}, []string{"/usr/bin/berth-oci", "run", "x"}},
		{[]string{"runc", "-v"}, []string{"runc", "-v"}},
		{[]string{"berth-oci"}, []string{"berth-oci"}},
		{[]string{"/usr/bin/berth", "oci", "list", "-q"}, []string{"/usr/bin/berth oci", "list", "-q"}},
	} {
		if got := face(c.args); !slices.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
