package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/image"
)

var testUsers = userFiles{
	passwd: "root:x:0:0:root:/root:/bin/sh\n# no\nbad line\n1000:x:0:0:a trap:/:/bin/sh\n2000:x:0:0:another:/:/bin/sh\n" +
		"app:x:1000:1000:App:/home/app:/bin/sh\nnum:x:7:8\nnobody:x:4294967295:0::/:\nstray:x:9:4294967295::/:\nwide:x:10:10::/:\n",
	group: "root:x:0:\n3000:x:0:\napp:x:1000:\ncrew:x:3000:app,other\nwheel:x:10:root\nall:x:4294967295:wide\n",
}

func TestIdentity(t *testing.T) {
	for spec, want := range map[string]Identity{
		"":          {Home: "/root", Groups: []uint32{10}},
		"app":       {UID: 1000, GID: 1000, Groups: []uint32{3000}, Home: "/home/app"},
		"1000":      {UID: 1000, GID: 1000, Groups: []uint32{3000}, Home: "/home/app"},
		"12345":     {UID: 12345, Home: "/"},
		"1000:2000": {UID: 1000, GID: 2000, Home: "/home/app"},
		"app:crew":  {UID: 1000, GID: 3000, Home: "/home/app"},
		"num":       {UID: 7, GID: 8, Home: "/"},
		"2000":      {UID: 2000, Home: "/"}, // also the name of a user with uid 0
		"7:3000":    {UID: 7, GID: 3000, Home: "/"},
		"0:0":       {Home: "/root"},
	} {
		got, err := testUsers.identity(spec, nil)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", spec, d)
		}
	}
	for spec, name := range map[string]string{"nosuch": "nosuch", "app:nogroup": "nogroup", "4294967295": "4294967295", "-1": "-1",
		"nobody": "4294967295", "stray": "4294967295", "wide": "4294967295", "app:all": "4294967295", "7:2147483648": "2147483648", "99999999999": "range"} {
		if got, err := testUsers.identity(spec, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v, %v", spec, got, err)
		}
	}
	got, err := userFiles{}.identity("", []string{"44"})
	if err != nil || got.Home != "/root" || got.Groups[0] != 44 {
		t.Error(got, err)
	}
	if _, err := testUsers.identity("app", []string{"nosuch"}); err == nil {
		t.Error("no error for an unknown group to add")
	}
}

// layers makes directories from name -> content; a name that ends in / is a
// directory, content "->x" a link.
func layer(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		p := filepath.Join(dir, files[i])
		os.MkdirAll(filepath.Dir(p), 0o755)
		var err error
		if strings.HasSuffix(files[i], "/") {
			err = os.MkdirAll(p, 0o755)
		} else if to, ok := strings.CutPrefix(files[i+1], "->"); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(files[i+1]), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCopyUp(t *testing.T) {
	low := layer(t, "data/a", "A", "data/sub/old", "o", "data/sub/b", "B", "data/l", "->sub/b")
	high := layer(t, "data/sub/b", "B2")
	if err := os.Link(low+"/data/a", low+"/data/a2"); err != nil {
		t.Fatal(err)
	}
	for _, set := range []error{unix.Chmod(low+"/data/a", 0o4751), os.Chmod(high+"/data", 0o750)} {
		if set != nil {
			t.Fatal(set)
		}
	}
	m, err := image.OpenView([]string{low, high}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	vol := t.TempDir()
	if err := copyUp(m, "/data", vol); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "A", "a2": "A", "sub/old": "o", "sub/b": "B2", "l": "B2"} {
		if b, err := os.ReadFile(vol + "/" + name); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	var a, a2, top unix.Stat_t
	unix.Stat(vol+"/a", &a)
	unix.Stat(vol+"/a2", &a2)
	unix.Stat(vol, &top)
	if a.Ino != a2.Ino || a.Mode&0o7777 != 0o4751 || top.Mode&0o7777 != 0o750 {
		t.Errorf("link %v, mode %o, folder %o", a.Ino == a2.Ino, a.Mode&0o7777, top.Mode&0o7777)
	}
	os.Remove(vol + "/a")
	if err := copyUp(m, "/data", vol); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(vol + "/a"); err == nil {
		t.Error("copied into a volume that had content")
	}
	if err := copyUp(m, "/no/such", t.TempDir()); err != nil {
		t.Error(err)
	}
}

// A copy that is killed leaves parts beside the volume, and nothing half in it.
func TestCopyUpAfterKill(t *testing.T) {
	low := layer(t, "data/a", "A", "data/b", "B", "data/sub/c", "C")
	m, err := image.OpenView([]string{low}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for name, left := range map[string][]string{
		"while it copied": {".fill/a", "half", "_data/", ""},
		"while it moved":  {".filled/b", "B", ".filled/sub/c", "C", "_data/a", "A"},
	} {
		dir := layer(t, left...)
		if err := copyUp(m, "/data", dir+"/_data"); err != nil {
			t.Fatal(name, err)
		}
		for f, want := range map[string]string{"a": "A", "b": "B", "sub/c": "C"} {
			if b, err := os.ReadFile(dir + "/_data/" + f); err != nil || string(b) != want {
				t.Errorf("killed %s: %s: %q %v", name, f, b, err)
			}
		}
		if names := dirNames(dir); len(names) != 1 {
			t.Errorf("killed %s: left behind %q", name, names)
		}
	}
}
