package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

func TestRecord(t *testing.T) {
	img, _, err := parseConfig([]byte(`{"created":"2024-05-06T07:08:09.123456789Z","architecture":"arm64","variant":"v8","os":"linux","config":{
		"User":"u:g","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Env":["A=1","B=\"q\"\n","C=\u00e9"],"Entrypoint":["/e","a b"],"Cmd":["",""],"Volumes":{"/v":{}},
		"WorkingDir":"/w d","Labels":{"k":"","x.y":"z"},"StopSignal":"SIGQUIT","Shell":["/bin/ash","-c"],
		"Healthcheck":{"Test":["CMD","x"],"Interval":1000000000,"Timeout":5,"StartPeriod":6,"StartInterval":7,"Retries":3}},
		"rootfs":{"type":"layers","diff_ids":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	img.Layers = []Layer{{"sha256:aa", "layers/aa/fs"}, {"sha256:bb", "layers/bb/fs"}}
	img.Size, img.Manifest = 42, "sha256:cc"
	got, err := decodeRecord(encodeRecord(img))
	if err != nil {
		t.Fatal(err)
	}
	got.ID = img.ID
	if !reflect.DeepEqual(got, img) {
		t.Errorf("got  %+v\nwant %+v", got, img)
	}
}

func FuzzRecord(f *testing.F) {
	img, _, _ := parseConfig([]byte(`{"rootfs":{"type":"layers"},"config":{"Env":["a"],"Healthcheck":{}}}`))
	f.Add(encodeRecord(img))
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := decodeRecord(b); err == nil {
			if again, err := decodeRecord(encodeRecord(img)); err != nil || !bytes.Equal(again.Raw, img.Raw) {
				t.Errorf("%q: %v", b, err)
			}
		}
	})
}

// FuzzManifest: no JSON may make the readers panic or accept what cannot be an image.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:` + strings.Repeat("0", 64) + `","size":1},"layers":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"x","platform":{"os":"linux","architecture":"amd64"}},{}]}`))
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, config, list, err := ParseManifest(b)
		if err == nil && m == nil && list == nil {
			t.Error("neither a manifest nor an index, and no error")
		}
		if m != nil {
			for _, l := range append(m.Layers, *config) {
				if CheckDigest(l.Digest) != nil || l.Size < 0 {
					t.Errorf("accepted %+v", l)
				}
			}
		}
		Choose(list, Platform{})
		if img, diffs, err := parseConfig(b); err == nil {
			for _, d := range diffs {
				if CheckDigest(d) != nil {
					t.Errorf("accepted %q", d)
				}
			}
			if _, err := decodeRecord(encodeRecord(img)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestGet(t *testing.T) {
	s := newStore(t)
	if _, err := s.Get("none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("empty store: %v", err)
	}
	if _, err := os.Stat(s.layers()); err == nil {
		t.Error("reading made folders")
	}
	a := mustAdd(t, s, []string{"one", "localhost/two:2"}, tarOf(t, file("a", "")))
	hx := a.ID[len("sha256:"):]
	for _, ref := range []string{"one", "one:latest", "docker.io/library/one", "two:2", "localhost/two:2", a.ID, hx, hx[:12], "sha256:" + hx[:5]} {
		img, err := s.Get(ref)
		if err != nil || img.ID != a.ID || !slices.Equal(img.Names, []string{"docker.io/library/one:latest", "localhost/two:2"}) {
			t.Errorf("Get(%q) = %v, %v", ref, img, err)
		}
	}
	for ref, want := range map[string]error{"two": ErrNotFound, "one:2": ErrNotFound, "sha256:" + strings.Repeat("0", 64): ErrNotFound, "0000": ErrNotFound,
		"a@sha256:" + strings.Repeat("1", 64): ErrNotFound, "A//B": ErrReference} {
		if _, err := s.Get(ref); !errors.Is(err, want) {
			t.Errorf("Get(%q): %v, want %v", ref, err, want)
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || !reflect.DeepEqual(list[0].Config, a.Config) || list[0].Config.Labels["l"] != "v\nw" {
		t.Errorf("List() = %+v, %v", list, err)
	}
}

func TestTagRemovePrune(t *testing.T) {
	s := newStore(t)
	base, top := tarOf(t, file("base", "")), tarOf(t, file("top", ""))
	a := mustAdd(t, s, []string{"a"}, base)
	b := mustAdd(t, s, []string{"b", "b:2", "docker.io/library/b@" + Digest([]byte("m"))}, base, top)
	clean(t, s, 2)
	if err := s.Tag("a", "x/y:1"); err != nil {
		t.Fatal(err)
	}
	for dst, want := range map[string]error{"oci:x": ErrReference, "UP": ErrReference, "a@" + a.ID: ErrReference} {
		if err := s.Tag("a", dst); !errors.Is(err, want) {
			t.Errorf("Tag(a, %q): %v", dst, err)
		}
	}
	if err := s.Tag("nope", "z"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Tag of nothing: %v", err)
	}
	if _, err := s.Remove(a.ID, nil); !errors.Is(err, ErrManyNames) {
		t.Errorf("Remove by id: %v", err)
	}
	used := func(id string) bool { return id == b.ID }
	done, err := s.Remove("b:2", used)
	if err != nil || !slices.Equal(done, []string{"Untagged: docker.io/library/b:2"}) {
		t.Errorf("Remove(b:2) = %q, %v", done, err)
	}
	if _, err := s.Remove("b", used); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove of a used one: %v", err)
	}
	if img, err := s.Get("b"); err != nil || len(img.Digests) != 1 {
		t.Errorf("a refused Remove changed %v, %v", img, err)
	}
	if done, err = s.Untag("b"); err != nil || len(done) != 2 {
		t.Errorf("Untag(b) = %q, %v", done, err)
	}
	if p, err := s.Prune(false, used); err != nil || p.Lines != nil {
		t.Errorf("Prune of a used one = %+v, %v", p, err)
	}
	clean(t, s, 2)
	p, err := s.Prune(false, nil)
	if err != nil || !slices.Equal(p.Lines, []string{"Deleted: " + b.ID}) || p.Bytes != int64(len(top)) {
		t.Errorf("Prune = %+v, %v", p, err)
	}
	clean(t, s, 1)
	s.Remove("a", nil)
	if done, err = s.Remove(a.ID[7:20], nil); err != nil || !slices.Equal(done, []string{"Untagged: docker.io/x/y:1", "Deleted: " + a.ID}) {
		t.Errorf("Remove = %q, %v", done, err)
	}
	clean(t, s, 0)
}

// A layer that a running load counts on stays, and goes when the load ends.
func TestCollectWaits(t *testing.T) {
	s := newStore(t)
	base := tarOf(t, file("base", ""))
	mustAdd(t, s, []string{"a"}, base)
	adding, err := s.Add(configOf(t, base, []byte("later")), Manifest{Layers: make([]Blob, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if !adding.Has(0) || adding.Has(1) {
		t.Error("Has is wrong")
	}
	if _, err := s.Remove("a", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.root + "/" + adding.layers[0].dir); err != nil {
		t.Errorf("removed under a running load: %v", err)
	}
	if _, err := adding.Commit("x"); err == nil {
		t.Error("committed without a layer")
	}
	if err := adding.Close(); err != nil {
		t.Fatal(err)
	}
	clean(t, s, 0)
}

func TestHold(t *testing.T) {
	s := newStore(t)
	img := mustAdd(t, s, []string{"a"}, tarOf(t, file("a", "")))
	release, err := s.Hold(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error)
	go func() {
		_, err := s.Remove("a", nil)
		gone <- err
	}()
	select {
	case err := <-gone:
		t.Fatalf("removed while held: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hold(img.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("Hold of a removed one: %v", err)
	}
}

// What a killed process left is gone after the next operation; what a living one makes stays.
func TestSweep(t *testing.T) {
	s := newStore(t)
	mustAdd(t, s, []string{"a"}, tarOf(t, file("a", "")))
	for _, d := range []string{".new-dead/fs/x", ".rm-dead/fs"} {
		if err := os.MkdirAll(s.layers()+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(s.images()+"/.new-names", nil, 0o600)
	alive, lock, err := s.newFolder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(false, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(alive); err != nil {
		t.Errorf("the folder of a living process: %v", err)
	}
	lock.Close()
	mustAdd(t, s, []string{"b"}, tarOf(t, file("b", "")))
	clean(t, s, 2)
	if _, err := os.Stat(s.images() + "/.new-names"); err == nil {
		t.Error("half a names file stays")
	}
}

// Two layers whose ChainIDs start alike both get a place.
func TestShortNamesClash(t *testing.T) {
	s := newStore(t)
	img := mustAdd(t, s, []string{"a"}, tarOf(t, file("a", "")))
	d := s.root + "/" + strings.TrimSuffix(img.Layers[0].Dir, "/fs")
	b, _ := os.ReadFile(d + "/record")
	os.WriteFile(d+"/record", bytes.Replace(b, []byte(img.ChainID()), []byte(img.ChainID()[:40]+strings.Repeat("0", 31)), 1), 0o600)
	again := mustAdd(t, s, []string{"a"}, tarOf(t, file("a", "")))
	if again.Layers[0].Dir == img.Layers[0].Dir || len(again.Layers[0].Dir) != len(img.Layers[0].Dir)+1 {
		t.Errorf("dir is %s", again.Layers[0].Dir)
	}
}

func TestParallelLoads(t *testing.T) {
	s := newStore(t)
	var layers [][]byte
	for i := range 12 {
		layers = append(layers, tarOf(t, file("f", strings.Repeat("x", i)), file("d/e", "")))
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := add(s, configOf(t, layers...), []string{"p"}, layers...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	clean(t, s, 12)
}

func TestSaveLoad(t *testing.T) {
	s := newStore(t)
	base := tarOf(t, file("base", strings.Repeat("b", 200000)), file("base", "again"), link("l", "base"), file("l", "now a file"))
	a := mustAdd(t, s, []string{"a:1", "a:2"}, base)
	b := mustAdd(t, s, []string{"localhost/b:1"}, base, append(tarOf(t, file("x", "")), "trailing bytes"...))
	var out, packed bytes.Buffer
	if err := s.Save(context.Background(), &out, "a:1", "b:1", a.ID); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&packed)
	z.Write(out.Bytes())
	z.Close()
	for _, r := range []io.Reader{&out, &packed} {
		to := newStore(t)
		got, err := to.Load(context.Background(), r, nil)
		if err != nil || len(got) != 2 || got[0].ID != a.ID || got[1].ID != b.ID {
			t.Fatalf("Load = %v, %v", got, err)
		}
		if !slices.Equal(got[0].Names, []string{"docker.io/library/a:1"}) || !slices.Equal(got[1].Names, []string{"localhost/b:1"}) {
			t.Errorf("names are %v and %v", got[0].Names, got[1].Names)
		}
		clean(t, to, 2)
	}
	os.WriteFile(s.root+"/"+a.Layers[0].Dir+"/base", []byte("AGAIN"), 0o600)
	if err := s.VerifyLayer(context.Background(), a.Layers[0]); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a changed file: %v", err)
	}
}

func TestArchives(t *testing.T) {
	l := tarOf(t, file("a", ""))
	conf := configOf(t, l)
	manifest := func(layer string) string {
		b, _ := json.Marshal([]dockerImage{{Config: "c.json", RepoTags: []string{"x:1"}, Layers: []string{layer}}})
		return string(b)
	}
	for _, c := range []struct {
		name, says string
		es         []ent
	}{
		{"plain", "", []ent{file("c.json", string(conf)), file("l.tar", string(l)), file("manifest.json", manifest("l.tar"))}},
		{"link", "", []ent{file("c.json", string(conf)), file("d/l.tar", string(l)), link("e/l.tar", "../d/l.tar"), file("manifest.json", manifest("e/l.tar"))}},
		{"link out", "not in the archive", []ent{file("c.json", string(conf)), link("l.tar", "/etc/passwd"), file("manifest.json", manifest("l.tar"))}},
		{"link up", "not in the archive", []ent{file("c.json", string(conf)), link("l.tar", "../../etc/passwd"), file("manifest.json", manifest("l.tar"))}},
		{"loop", "too many", []ent{file("c.json", string(conf)), link("l.tar", "l.tar"), file("manifest.json", manifest("l.tar"))}},
		{"no layer", "not in the archive", []ent{file("c.json", string(conf)), file("manifest.json", manifest("l.tar"))}},
		{"no config", "not in the archive", []ent{file("l.tar", string(l)), file("manifest.json", manifest("l.tar"))}},
		{"other config", "digest", []ent{file(strings.Repeat("0", 64)+".json", string(conf)), file("l.tar", string(l)),
			file("manifest.json", strings.Replace(manifest("l.tar"), "c.json", strings.Repeat("0", 64)+".json", 1))}},
		{"no image", "neither", []ent{file("etc/passwd", "")}},
		{"empty list", "no image", []ent{file("manifest.json", "[]")}},
		{"null", "no image", []ent{file("manifest.json", "null")}},
		{"not JSON", "manifest.json", []ent{file("manifest.json", "{")}},
		{"huge", "limit", []ent{file("manifest.json", strings.Repeat(" ", maxManifest+1))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			imgs, err := s.Load(context.Background(), bytes.NewReader(tarOf(t, c.es...)), nil)
			if c.says == "" && (err != nil || len(imgs) != 1) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error is %v, should speak of %q", err, c.says)
			}
			clean(t, s, map[bool]int{true: 1}[c.says == ""])
		})
	}
}

func TestChoose(t *testing.T) {
	d := func(os, arch, variant string) Descriptor {
		return Descriptor{Blob: Blob{Digest: os + arch + variant}, Platform: &Platform{os, arch, variant}}
	}
	att := d("linux", "amd64", "att")
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	list := []Descriptor{att, d("windows", "amd64", ""), d("linux", "arm64", "v8"), d("linux", "amd64", "v2"), d("linux", "amd64", ""), d("unknown", "unknown", "")}
	for in, want := range map[string]string{"linux/amd64": "linuxamd64", "amd64": "linuxamd64", "x86_64": "linuxamd64", "linux/arm64": "linuxarm64v8", "linux/amd64/v2": "linuxamd64v2", "linux/s390x": "", "linux/arm64/v9": ""} {
		p, err := ParsePlatform(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Choose(list, p); got.Digest != want || (err == nil) != (want != "") {
			t.Errorf("Choose(%s) = %q, %v", in, got.Digest, err)
		}
	}
	for _, bad := range []string{"windows/amd64", "a/b/c/d", "linux/", "bogus", "linux/bogus", "linux/amd64/v2/x"} {
		if p, err := ParsePlatform(bad); err == nil {
			t.Errorf("ParsePlatform(%q) = %v", bad, p)
		}
	}
}

// An image can hold more than any process should be asked to keep: a load
// that is killed leaves nothing that the next one does not remove.
func TestKilled(t *testing.T) {
	if root := os.Getenv("IMAGE_TEST_LOAD"); root != "" { // the process that is killed
		s, _ := Open(root)
		var layers [][]byte
		for i := range 40 {
			layers = append(layers, tarOf(t, file("f", strings.Repeat("x", 100000*i)), dir("d"), file("d/e", "")))
		}
		for {
			if _, err := add(s, configOf(t, layers...), []string{"k"}, layers...); err != nil {
				t.Fatal(err)
			}
			s.Remove("k", nil)
		}
	}
	s := newStore(t)
	for i := range 8 {
		c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		c.Env = append(os.Environ(), "IMAGE_TEST_LOAD="+s.root)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(60+i*37) * time.Millisecond)
		c.Process.Kill()
		c.Wait()
	}
	if _, err := s.Prune(true, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.layers()); err == nil { // a slow machine may have killed them all too early
		clean(t, s, 0)
	}
	if b, err := os.ReadFile(s.images() + "/names"); err == nil && len(b) > 0 {
		t.Errorf("names are %q", b)
	}
	mustAdd(t, s, []string{"k"}, tarOf(t, file("a", "")))
}

func BenchmarkGet(b *testing.B) {
	s := newStore(b)
	var layers [][]byte
	for i := range 8 {
		layers = append(layers, tarOf(b, file("f", strings.Repeat("x", i))))
	}
	mustAdd(b, s, []string{"busybox"}, layers...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get("busybox"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	var es []ent
	for i := range 2000 {
		d := "d" + string(rune('a'+i%20))
		if i < 20 {
			es = append(es, dir(d))
		}
		es = append(es, file(d+"/f"+strings.Repeat("n", i/20), strings.Repeat("content ", i%512)))
	}
	l := tarOf(b, es...)
	b.SetBytes(int64(len(l)))
	for b.Loop() {
		s := newStore(b)
		if _, err := add(s, configOf(b, l), nil, l); err != nil {
			b.Fatal(err)
		}
	}
}
