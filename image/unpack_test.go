package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Each case is what the last of its layers looks like, as a lower directory.
func TestLayers(t *testing.T) {
	wh := func(name string) ent { return file(name, "") }
	for _, c := range []struct {
		name   string
		layers [][]ent
		want   string
	}{
		{"whiteout", [][]ent{{dir("a"), file("a/x", "1")}, {wh("a/.wh.x")}}, "a/ 755\na/x whiteout"},
		{"whiteout of nothing", [][]ent{{dir("a")}, {wh("a/.wh.x"), wh("b/.wh.y"), wh(".wh."), wh(".wh..."), wh(".wh..wh.plnk")}}, ""},
		{"whiteout in the base", [][]ent{{dir("a"), wh("a/.wh.x"), wh("a/.wh..wh..opq")}}, "a/ 755"},
		{"made, then whited out", [][]ent{{file("a", "old")}, {file("a", "new"), wh(".wh.a")}}, `a 644 "new"`},
		{"directory made, then whited out", [][]ent{{dir("a"), file("a/x", "")}, {dir("a"), file("a/y", ""), wh(".wh.a")}}, "a/ 755 opaque\na/y 644 \"\""},
		{"whited out, then made", [][]ent{{dir("a"), file("a/x", "")}, {wh(".wh.a"), dir("a")}}, "a/ 755 opaque"},
		{"whited out, then a child", [][]ent{{dir("a"), file("a/x", "")}, {wh(".wh.a"), file("a/y", "")}}, "a/ 755 opaque\na/y 644 \"\""},
		{"opaque after whiteouts", [][]ent{{dir("a"), dir("a/b"), file("a/b/x", "")}, {wh("a/b/.wh.x"), wh("a/.wh..wh..opq")}}, "a/ 755 opaque\na/b/ 755"},
		{"opaque root", [][]ent{{dir("a"), file("f", "")}, {file("n", ""), wh(".wh..wh..opq")}}, "a whiteout\nf whiteout\nn 644 \"\""},
		{"whiteout twice", [][]ent{{file("a", "")}, {wh(".wh.a"), wh(".wh.a")}}, "a whiteout"},
		{"whiteout through a link", [][]ent{{dir("d"), file("d/x", ""), link("l", "/d")}, {wh("l/.wh.x")}}, "d/ 755\nd/x whiteout"},
		{"parent keeps its mode", [][]ent{{{kind: tar.TypeDir, name: "p", mode: 0o1701}}, {file("p/q/x", "")}}, "p/ 1701\np/q/ 755\np/q/x 644 \"\""},
		{"parent is a link below", [][]ent{{dir("usr"), dir("usr/lib"), link("lib", "/usr/../usr/lib")}, {file("lib/x", "1")}}, "usr/ 755\nusr/lib/ 755\nusr/lib/x 644 \"1\""},
		{"parent leaves through a link", [][]ent{{link("l", "../../../..")}, {file("l/x", "1")}}, "x 644 \"1\""},
		{"hidden parents are new", [][]ent{{{kind: tar.TypeDir, name: "a", mode: 0o700}, {kind: tar.TypeDir, name: "a/b", mode: 0o700}}, {dir("a"), wh("a/.wh..wh..opq")}, {file("a/b/c", "")}}, "a/ 755\na/b/ 755\na/b/c 644 \"\""},
		{"directory to file", [][]ent{{dir("a"), file("a/x", "")}, {file("a", "f")}}, `a 644 "f"`},
		{"file to directory", [][]ent{{file("a", "f")}, {dir("a"), file("a/x", "")}}, "a/ 755\na/x 644 \"\""},
		{"last one wins", [][]ent{{file("a", "1"), file("a", "22"), dir("b"), file("b/x", "deep"), file("b", "f"), dir("b"), file("c", ""), link("c", "a")}},
			"a 644 \"22\"\nb/ 755\nc -> a"},
		{"hard link", [][]ent{{file("a", "1"), dir("d"), hard("d/b", "/a"), hard("d/b", "./d/b")}}, "a 644 \"1\" links 2\nd/ 755\nd/b 644 \"1\" links 2"},
		{"hard link into a lower layer", [][]ent{{dir("d"), file("d/a", "1")}, {hard("b", "d/a")}}, "b 644 \"1\" links 2\nd/ 755\nd/a 644 \"1\" links 2"},
		{"hard link to a lower link", [][]ent{{link("a", "/etc/passwd")}, {hard("b", "a")}}, "a -> /etc/passwd\nb -> /etc/passwd"},
		{"names are cleaned", [][]ent{{file("/abs", ""), file("./x//y", ""), file("p/../q", "")}}, "abs 644 \"\"\nq 644 \"\"\nx/ 755\nx/y 644 \"\""},
		{"names like whiteouts", [][]ent{{file(".whx", ""), file("a.wh.b", ""), dir(".wh.d"), file(".wh.d/x", "")}}, ".whx 644 \"\"\na.wh.b 644 \"\""},
		{"modes", [][]ent{{{kind: tar.TypeReg, name: "s", mode: 0o4755}, {kind: tar.TypeDir, name: "d", mode: 0o2770}, {kind: tar.TypeFifo, name: "p", mode: 0o600}}}, "d/ 2770\np type 10000\ns 4755 \"\""},
		{"orders to overlayfs", [][]ent{{dir("a"), file("a/x", "")}, {{kind: tar.TypeDir, name: "a", mode: 0o755, xa: map[string]string{"trusted.overlay.opaque": "y", "user.overlay.opaque": "y"}}}}, "a/ 755"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			var layers [][]byte
			for _, l := range c.layers {
				layers = append(layers, tarOf(t, l...))
			}
			img := mustAdd(t, s, nil, layers...)
			if got := show(t, s, img.Layers[len(layers)-1]); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			clean(t, s, len(layers))
		})
	}
}

// What is refused leaves nothing.
func TestRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, says string
		es         []ent
	}{
		{"dotdot", "..", []ent{file("a", ""), file("a/../../x", "")}},
		{"link to nothing", "no such file", []ent{hard("a", "b")}},
		{"link to a directory", "is a directory", []ent{dir("d"), hard("a", "d")}},
		{"link outside", "no such file", []ent{hard("a", outside)}},
		{"link above", "..", []ent{hard("a", "../x")}},
		{"loop", "too many levels", []ent{link("a", "b"), link("b", "a"), file("a/x", "")}},
		{"file as parent", "not a directory", []ent{file("a", ""), file("a/b", "")}},
		{"fifo as parent", "not a directory", []ent{{kind: tar.TypeFifo, name: "p"}, file("p/b", "")}},
		{"long component", "too long", []ent{file(strings.Repeat("x", 256), "")}},
		{"deep", "too long", []ent{file(strings.Repeat("d/", 2100)+"x", "")}},
		{"deeper through a link", "too long", []ent{file(strings.Repeat("d/", 1500)+"x", ""), link("l", strings.Repeat("d/", 1500)), file("l/"+strings.Repeat("e/", 1500)+"x", "")}},
		{"root is a file", "directory", []ent{link(".", "x")}},
		{"unknown type", "unsupported", []ent{{kind: 'Z', name: "z"}}},
		{"xattr of no size", "xattr", []ent{{kind: tar.TypeReg, name: "x", xa: map[string]string{"user.x": strings.Repeat("v", 100<<10)}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			l := tarOf(t, c.es...)
			if _, err := add(s, configOf(t, l), nil, l); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, should speak of %q", err, c.says)
			}
			clean(t, s, 0)
		})
	}
}

func TestAttributes(t *testing.T) {
	s := newStore(t)
	uid := 0
	if in, err := findRights(); err == nil && in.nodes { // all ids are mapped
		uid = 1234
	}
	img := mustAdd(t, s, nil,
		tarOf(t, ent{kind: tar.TypeDir, name: "./", mode: 0o711}, ent{kind: tar.TypeDir, name: "d", mode: 0o750, uid: uid},
			ent{kind: tar.TypeReg, name: "d/f", mode: 0o600, xa: map[string]string{"user.k": "\x00v"}}),
		tarOf(t, file("d/g", "")))
	for _, l := range img.Layers { // the second layer lists neither: both are as below
		for name, mode := range map[string]uint32{".": 0o711, "d": 0o750} {
			var st unix.Stat_t
			if err := unix.Lstat(s.root+"/"+l.Dir+"/"+name, &st); err != nil {
				t.Fatal(err)
			}
			if st.Mode&0o7777 != mode || st.Mtim.Nano() != day.UnixNano() {
				t.Errorf("%s/%s: mode %o, time %d", l.Dir, name, st.Mode&0o7777, st.Mtim.Nano())
			}
			if name == "d" && os.Geteuid() == 0 && st.Uid != uint32(uid) {
				t.Errorf("%s/%s: owner %d", l.Dir, name, st.Uid)
			}
		}
	}
	b := make([]byte, 10)
	n, err := unix.Lgetxattr(s.root+"/"+img.Layers[0].Dir+"/d/f", "user.k", b)
	if err != nil && err != unix.EOPNOTSUPP || err == nil && string(b[:n]) != "\x00v" {
		t.Errorf("user.k = %q, %v", b[:max(n, 0)], err)
	}
}

func TestDevices(t *testing.T) {
	in, err := findRights()
	if err != nil {
		t.Fatal(err)
	}
	if !in.nodes {
		t.Skip("needs root outside of user namespaces: mknod")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3, Mode: 0o666})
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeBlock, Name: "loop", Devmajor: 7, Devminor: 300, Mode: 0o660})
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "gone", Mode: 0o660})
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeChar, Name: "gone", Mode: 0o666}) // 0/0
	w.Close()
	s := newStore(t)
	img := mustAdd(t, s, nil, b.Bytes())
	for name, dev := range map[string]uint64{"null": unix.Mkdev(1, 3), "loop": unix.Mkdev(7, 300)} {
		var st unix.Stat_t
		if err := unix.Lstat(s.root+"/"+img.Layers[0].Dir+"/"+name, &st); err != nil || st.Rdev != dev {
			t.Errorf("%s: device %x, %v", name, st.Rdev, err)
		}
	}
	if got := show(t, s, img.Layers[0]); strings.Contains(got, "gone") {
		t.Errorf("a whiteout in the base layer stays: %s", got)
	}
}

// Blocks of zeros become holes, and the content is still the same.
func TestHoles(t *testing.T) {
	s := newStore(t)
	body := strings.Repeat("\x00", 1<<20) + "mid" + strings.Repeat("\x00", 300001)
	img := mustAdd(t, s, nil, tarOf(t, file("f", body)))
	var st unix.Stat_t
	name := s.root + "/" + img.Layers[0].Dir + "/f"
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != body {
		t.Errorf("content differs: %v", err)
	}
	if st.Blocks*512 > 64<<10 {
		t.Errorf("%d bytes on disk", st.Blocks*512)
	}
}

func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("writes zeros for seconds")
	}
	var head, blob bytes.Buffer
	tar.NewWriter(&head).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: 8 << 30, Mode: 0o644})
	// one frame: the header raw, then zeros as RLE blocks of 128 KiB (RFC 8878)
	blob.Write([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3})
	block := func(kind, size uint32) {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], kind<<1|size<<3)
		blob.Write(b[:3])
	}
	block(0, uint32(head.Len()))
	blob.Write(head.Bytes())
	for range 8 << 30 / (128 << 10) {
		block(1, 128<<10)
		blob.WriteByte(0)
	}
	s := newStore(t)
	if _, err := add(s, configOf(t, nil), nil, blob.Bytes()); err == nil || !strings.Contains(err.Error(), "expands") {
		t.Errorf("error is %v", err)
	}
	clean(t, s, 0)
}

// Blobs are held against digest and size, tars against their diff_id.
func TestVerified(t *testing.T) {
	plain := tarOf(t, file("a", strings.Repeat("text ", 5000)))
	z, _ := zstd.NewWriter(nil)
	blob := z.EncodeAll(plain, nil)
	good := Blob{MediaType: "application/vnd.oci.image.layer.v1.tar+zstd", Digest: Digest(blob), Size: int64(len(blob))}
	other := tarOf(t, file("b", ""))
	for _, c := range []struct {
		says   string
		config []byte
		send   []byte
		desc   func(*Blob)
	}{
		{"", configOf(t, plain), blob, nil},
		{"diff_id", configOf(t, other), blob, nil},
		{"digest", configOf(t, plain), append(blob[:len(blob):len(blob)], 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0), func(b *Blob) { b.Size += 8 }},
		{"size", configOf(t, plain), blob, func(b *Blob) { b.Size-- }},
		{"size", configOf(t, plain), blob, func(b *Blob) { b.Size++ }},
		{"size", configOf(t, plain), blob, func(b *Blob) { b.Size = -1 }},
		{"size", configOf(t, plain), blob[:len(blob)/2], nil},
		{"EOF", configOf(t, plain), blob[:len(blob)/2], func(b *Blob) { b.Size /= 2; b.Digest = Digest(blob[:b.Size]) }},
		{"digest of the blob", configOf(t, plain), append([]byte{1}, blob[1:]...), nil},
		{"media type", configOf(t, plain), blob, func(b *Blob) { b.MediaType = "text/html" }},
		{"digest", configOf(t, plain), blob, func(b *Blob) { b.Digest = "sha256:../../x" }},
	} {
		s := newStore(t)
		b := good
		if c.desc != nil {
			c.desc(&b)
		}
		_, err := s.take(context.Background(), c.config, Manifest{Layers: []Blob{b}}, nil, nil, func(int) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(c.send)), nil
		})
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("error is %v, should speak of %q", err, c.says)
		}
	}
}

// addOn makes an image of base and one layer more, plain or compressed.
func addOn(s *Store, base *Image, b []byte) (*Image, error) {
	f, diff, err := s.spool(context.Background(), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	config := fmt.Sprintf(`{"rootfs":{"type":"layers","diff_ids":[%q,%q]}}`, base.Layers[0].DiffID, diff)
	return s.take(context.Background(), []byte(config), Manifest{Layers: make([]Blob, 2)}, nil, nil, func(int) (io.ReadCloser, error) {
		return io.NopCloser(f), nil
	})
}

// No tar may escape, hang, panic or leave anything behind.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, dir("a"), file("a/x", "1"), link("l", "/a"), file("l/y", "2"), hard("h", "a/x"), file(".wh.low", ""), file("d/.wh..wh..opq", "")))
	f.Add(tarOf(f, file("../x", ""), link("a", "../.."), file("a/b/c", "")))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	base := tarOf(f, dir("d"), file("d/f", "low"), file("low", "low"), link("s", "d"), link("up", "../../.."))
	f.Fuzz(func(t *testing.T, b []byte) {
		if os.Geteuid() == 0 && bytes.Contains(b, []byte("SCHILY")) {
			return // random security.* on the host's disk is no test
		}
		s := newStore(t)
		mark := filepath.Dir(s.root)
		before, _ := os.ReadDir(mark)
		low := mustAdd(t, s, []string{"low"}, base)
		was := show(t, s, low.Layers[0])
		img, err := addOn(s, low, b)
		after, _ := os.ReadDir(mark)
		if len(before) != len(after) || was != show(t, s, low.Layers[0]) {
			t.Fatal("something outside of the layer changed")
		}
		if err != nil {
			clean(t, s, 1)
			return
		}
		if err := s.VerifyLayer(context.Background(), img.Layers[1]); err != nil {
			t.Error(err)
		}
		if got := show(t, s, img.Layers[1]); strings.Contains("\n"+got, "\n.wh.") || strings.Contains(got, "/.wh.") {
			t.Errorf("markers in the layer:\n%s", got)
		}
	})
}
