package image

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	dg := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct{ in, full, familiar string }{
		{"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
		{"me/app", "docker.io/me/app:latest", "me/app:latest"},
		{"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"index.docker.io/me/app:x", "docker.io/me/app:x", "me/app:x"},
		{"docker://alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"localhost/a:1", "localhost/a:1", "localhost/a:1"},
		{"localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"},
		{"127.0.0.1:5000/t/b_c__d-e--f.g:V1", "127.0.0.1:5000/t/b_c__d-e--f.g:V1", "127.0.0.1:5000/t/b_c__d-e--f.g:V1"},
		{"[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"},
		{"quay.io/x/y@" + dg, "quay.io/x/y@" + dg, "quay.io/x/y@" + dg},
		{"a:1@" + dg, "docker.io/library/a@" + dg, "a@" + dg},
		{"oci:/a/b:tag", "oci:/a/b:tag", "oci:/a/b:tag"},
		{"docker-archive:x.tar", "docker-archive:x.tar", "docker-archive:x.tar"},
		{"oci-archive:x.tar:a:1", "oci-archive:x.tar:a:1", "oci-archive:x.tar:a:1"},
	} {
		r, err := Parse(c.in)
		if err != nil || r.String() != c.full || r.Familiar() != c.familiar {
			t.Errorf("Parse(%q) = %q, %q, %v; want %q, %q", c.in, r, r.Familiar(), err, c.full, c.familiar)
		}
	}
	for _, in := range []string{"", ":", "a:", "Bad//Name:1", "UPPER", "a//b", "/a", "a/", "-a", "a_", "a___b", "a..b", "a b", "a:b c", "a:.x", "a\nb",
		"a@sha256:12", "a@md5:" + strings.Repeat("0", 32), "host:port/a", "host:123456/a", "a-.io/b", "oci:", "ü",
		strings.Repeat("a", 64), strings.Repeat("b/", 150) + "c", "a:" + strings.Repeat("t", 129)} {
		if r, err := Parse(in); !errors.Is(err, ErrReference) {
			t.Errorf("Parse(%q) = %q, %v; want ErrReference", in, r, err)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("Parse(%q): error of several lines", in)
		}
	}
}

// A name that parses must parse to itself again, and hold nothing that could leave a line of the index.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"busybox", "localhost:5000/a/b:1", "a@sha256:" + strings.Repeat("0", 64), "[::1]:5/x", "oci:a:b", "a/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil || r.Transport != "" {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q -> %q -> %q, %v", s, r, again, err)
		}
		if strings.ContainsAny(r.String(), " \n\x00") || strings.Contains(r.String(), "..") && !strings.Contains(r.Tag, "..") {
			t.Errorf("%q -> %q", s, r)
		}
	})
}
