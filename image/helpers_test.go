package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ent is one tar entry, short to write: kind is the type flag, body the
// content or the link target.
type ent struct {
	kind byte
	name string
	body string
	mode int64
	uid  int
	xa   map[string]string
}

func file(name, body string) ent { return ent{kind: tar.TypeReg, name: name, body: body, mode: 0o644} }
func dir(name string) ent        { return ent{kind: tar.TypeDir, name: name, mode: 0o755} }
func link(name, to string) ent   { return ent{kind: tar.TypeSymlink, name: name, body: to, mode: 0o777} }
func hard(name, to string) ent   { return ent{kind: tar.TypeLink, name: name, body: to} }

var day = time.Unix(1700000000, 5)

func tarOf(t testing.TB, es ...ent) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range es {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Mode: e.mode, Uid: e.uid, ModTime: day, Format: tar.FormatPAX}
		if e.xa != nil {
			h.PAXRecords = map[string]string{}
			for k, v := range e.xa {
				h.PAXRecords["SCHILY.xattr."+k] = v
			}
		}
		if e.kind == tar.TypeReg {
			h.Size = int64(len(e.body))
		} else {
			h.Linkname = e.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			io.WriteString(w, e.body)
		}
	}
	w.Close()
	return b.Bytes()
}

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func configOf(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	diffs := []string{}
	for _, l := range layers {
		diffs = append(diffs, Digest(l))
	}
	b, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
		"config": map[string]any{"Cmd": []string{"sh"}, "Env": []string{"A=b \"c\""}, "Labels": map[string]string{"l": "v\nw"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// add puts an image of these tars into the store.
func add(s *Store, config []byte, names []string, layers ...[]byte) (*Image, error) {
	return s.take(context.Background(), config, Manifest{Layers: make([]Blob, len(layers))}, names, nil, func(i int) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layers[i])), nil
	})
}

func mustAdd(t testing.TB, s *Store, names []string, layers ...[]byte) *Image {
	t.Helper()
	img, err := add(s, configOf(t, layers...), names, layers...)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range img.Layers {
		if err := s.VerifyLayer(context.Background(), l); err != nil {
			t.Error(err)
		}
	}
	return img
}

// show lists a layer's directory, one line an entry.
func show(t testing.TB, s *Store, l Layer) string {
	t.Helper()
	root := s.root + "/" + l.Dir
	in, err := findRights()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := strings.TrimPrefix(p, root+"/")
		switch {
		case isWhiteout(&st):
			line += " whiteout"
		case isLink(&st):
			to, _ := os.Readlink(p)
			line += " -> " + to
		case isDir(&st):
			line += fmt.Sprintf("/ %o", st.Mode&0o7777)
			var b [1]byte
			if n, err := unix.Lgetxattr(p, in.xattr+"opaque", b[:]); err == nil && n == 1 {
				line += " opaque"
			}
		case isReg(&st):
			b, _ := os.ReadFile(p)
			line += fmt.Sprintf(" %o %q", st.Mode&0o7777, b)
			if st.Nlink > 1 {
				line += fmt.Sprintf(" links %d", st.Nlink)
			}
		default:
			line += fmt.Sprintf(" type %o", st.Mode&unix.S_IFMT)
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// clean fails if anything but finished layers and locks is left.
func clean(t testing.TB, s *Store, layers int) {
	t.Helper()
	entries, err := os.ReadDir(s.layers())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if isHex(e.Name()) {
			n++
		} else if e.Name() != ".lock" {
			t.Errorf("left behind: layers/%s", e.Name())
		}
	}
	if n != layers {
		t.Errorf("%d layers, want %d", n, layers)
	}
}
