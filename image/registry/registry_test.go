package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/berth-run/berth/image"
)

// server is a registry in this process, with faults on demand.
type server struct {
	*httptest.Server
	mu        sync.Mutex
	blobs     map[string][]byte
	manifests map[string][]byte // by tag and digest
	uploads   map[string][]byte
	cut       int // break each blob's connection after so many bytes, while > 0
	cuts      int // so many times
	noRanges  bool
	token     string // wanted as Bearer; "" lets everybody in
	busy      int    // answer 503 so many times
	ranges    int    // requests that asked for a range
}

func newServer(t *testing.T) *server {
	s := &server{blobs: map[string][]byte{}, manifests: map[string][]byte{}, uploads: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "")
	return s
}

func (s *server) host() string { return strings.TrimPrefix(s.URL, "http://") }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := strings.TrimPrefix(r.URL.Path, "/v2/")
	switch {
	case r.URL.Path == "/token":
		if u, pw, _ := r.BasicAuth(); u != "me" || pw != "secret" || !strings.HasPrefix(r.URL.Query().Get("scope"), "repository:t/app:pull") {
			w.WriteHeader(401)
			return
		}
		fmt.Fprintf(w, `{"token":%q}`, s.token)
		return
	case s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x"`, s.URL))
		w.WriteHeader(401)
		io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"go\naway"}]}`)
		return
	case s.busy > 0 && p != "":
		s.busy--
		w.WriteHeader(503)
		return
	}
	_, what, _ := strings.Cut(p, "t/app/")
	kind, id, _ := strings.Cut(what, "/")
	switch {
	case p == "":
	case kind == "manifests" && r.Method == "PUT":
		b, _ := io.ReadAll(r.Body)
		s.manifests[id], s.manifests[image.Digest(b)] = b, b
		w.WriteHeader(201)
	case kind == "manifests":
		s.send(w, r, s.manifests[id])
	case strings.HasPrefix(id, "uploads/"):
		s.upload(w, r, strings.TrimPrefix(id, "uploads/"))
	case kind == "blobs":
		s.send(w, r, s.blobs[id])
	default:
		w.WriteHeader(404)
	}
}

func (s *server) upload(w http.ResponseWriter, r *http.Request, id string) {
	b, _ := io.ReadAll(r.Body)
	switch r.Method {
	case "POST":
		w.Header().Set("Location", fmt.Sprintf("/v2/t/app/blobs/uploads/u%d?state=x", len(s.uploads)))
		s.uploads[fmt.Sprintf("u%d", len(s.uploads))] = nil
		w.WriteHeader(202)
	case "PATCH":
		s.uploads[id] = append(s.uploads[id], b...)
		w.Header().Set("Location", r.URL.Path)
		w.WriteHeader(202)
	case "PUT":
		all := append(s.uploads[id], b...)
		if d := r.URL.Query().Get("digest"); d != image.Digest(all) {
			w.WriteHeader(400)
			return
		}
		s.blobs[image.Digest(all)] = all
		w.WriteHeader(201)
	}
}

func (s *server) send(w http.ResponseWriter, r *http.Request, b []byte) {
	if b == nil {
		w.WriteHeader(404)
		io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
		return
	}
	off := 0
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &off); n == 1 {
		s.ranges++
		if s.noRanges {
			off = 0
		} else {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, len(b)-1, len(b)))
		}
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(b)-off))
	if w.Header().Get("Content-Range") != "" {
		w.WriteHeader(206)
	}
	if r.Method == "HEAD" {
		return
	}
	if s.cut > 0 && s.cuts > 0 && len(b)-off > s.cut {
		s.cuts--
		w.Write(b[off : off+s.cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.Write(b[off:])
}

// put gives the server an image of these layers, gzipped, and returns the manifest's digest.
func (s *server) put(t *testing.T, tag string, layers ...[]byte) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	blob := func(b []byte, mt string) image.Blob {
		s.blobs[image.Digest(b)] = b
		return image.Blob{MediaType: mt, Digest: image.Digest(b), Size: int64(len(b))}
	}
	var diffs []string
	list := []image.Blob{}
	for _, l := range layers {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(l)
		w.Close()
		diffs = append(diffs, image.Digest(l))
		list = append(list, blob(z.Bytes(), "application/vnd.docker.image.rootfs.diff.tar.gzip"))
	}
	conf, _ := json.Marshal(map[string]any{"os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	m, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": blob(conf, "application/vnd.docker.container.image.v1+json"), "layers": list})
	s.manifests[tag], s.manifests[image.Digest(m)] = m, m
	return image.Digest(m)
}

// layer is a tar of one file of so many random bytes.
func layer(name string, size int) []byte {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(size), Mode: 0o644})
	w.Write(body)
	w.Close()
	return b.Bytes()
}

func store(t *testing.T) *image.Store {
	t.Helper()
	s, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verify(t *testing.T, s *image.Store, img *image.Image, n int) {
	t.Helper()
	if len(img.Layers) != n {
		t.Fatalf("%d layers, want %d", len(img.Layers), n)
	}
	for _, l := range img.Layers {
		if err := s.VerifyLayer(context.Background(), l); err != nil {
			t.Error(err)
		}
	}
}

func TestPull(t *testing.T) {
	srv := newServer(t)
	d := srv.put(t, "1", layer("a", 100), layer("b", 300000), layer("c", 0))
	s := store(t)
	img, err := Pull(context.Background(), s, srv.host()+"/t/app:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	verify(t, s, img, 3)
	if len(img.Names) != 1 || len(img.Digests) != 1 || img.Digests[0] != srv.host()+"/t/app@"+d || img.Manifest != d {
		t.Errorf("names %v, digests %v, manifest %s", img.Names, img.Digests, img.Manifest)
	}
	var lines []string
	_, err = Pull(context.Background(), s, srv.host()+"/t/app@"+d, Options{Progress: func(l string) { lines = append(lines, l) }})
	if err != nil || len(lines) != 3 || !strings.Contains(lines[0], "already here") {
		t.Errorf("second pull: %v, %q", err, lines)
	}
}

func TestPullIndex(t *testing.T) {
	srv := newServer(t)
	arm, amd := srv.put(t, "arm", layer("arm", 1)), srv.put(t, "amd", layer("amd", 1))
	desc := func(d, arch string) map[string]any {
		return map[string]any{"digest": d, "size": len(srv.manifests[d]), "platform": map[string]string{"os": "linux", "architecture": arch}}
	}
	srv.manifests["multi"], _ = json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{desc(arm, "arm64"), desc(amd, "amd64")}})
	for p, want := range map[string]string{"linux/arm64": arm, "linux/amd64": amd} {
		if img, err := Pull(context.Background(), store(t), srv.host()+"/t/app:multi", Options{Platform: p}); err != nil || img.Manifest != want {
			t.Errorf("%s: %v, %v", p, img, err)
		}
	}
	if _, err := Pull(context.Background(), store(t), srv.host()+"/t/app:multi", Options{Platform: "linux/s390x"}); err == nil || !strings.Contains(err.Error(), "linux/arm64 linux/amd64") {
		t.Errorf("missing platform: %v", err)
	}
}

// A connection that breaks is taken up where it stopped, or, without ranges, read again.
func TestPullBroken(t *testing.T) {
	for _, noRanges := range []bool{false, true} {
		srv := newServer(t)
		srv.noRanges, srv.cut, srv.cuts, srv.busy = noRanges, 200000, 3, 2
		srv.put(t, "1", layer("a", 900000))
		s := store(t)
		img, err := Pull(context.Background(), s, srv.host()+"/t/app:1", Options{})
		if err != nil {
			t.Fatal(err)
		}
		verify(t, s, img, 1)
		if srv.ranges < 3 {
			t.Errorf("%d requests for the rest", srv.ranges)
		}
	}
}

func TestPullRefused(t *testing.T) {
	bad := func(f func(*server)) func(*testing.T, *server) { return func(_ *testing.T, s *server) { f(s) } }
	for name, c := range map[string]struct {
		break_ func(*testing.T, *server)
		ref    string
		is     error
		says   string
	}{
		"no tag":    {nil, "HOST/t/app:nope", ErrNotFound, "nope"},
		"no name":   {nil, "HOST/none:1", ErrNotFound, "none"},
		"no server": {nil, "127.0.0.1:1/x:1", ErrNetwork, "refused"},
		"no digest": {nil, "HOST/t/app@sha256:" + strings.Repeat("7", 64), ErrNotFound, "7777"},
		"bad name":  {nil, "HOST/T//x", image.ErrReference, "name"},
		"private":   {bad(func(s *server) { s.token = "x" }), "HOST/t/app:1", ErrDenied, "login"},
		"other bytes": {bad(func(s *server) {
			for _, b := range s.blobs {
				b[len(b)/2] ^= 1
			}
		}), "HOST/t/app:1", nil, "digest"},
		"longer": {bad(func(s *server) {
			for d, b := range s.blobs {
				if len(b) > 1000 {
					s.blobs[d] = append(b, "more"...)
				}
			}
		}), "HOST/t/app:1", nil, "size"},
		"other manifest": {bad(func(s *server) {
			for d := range s.manifests {
				if d != "1" {
					s.manifests[d] = append(s.manifests[d][:len(s.manifests[d]):len(s.manifests[d])], ' ')
				}
			}
		}), "HOST/t/app@DIGEST", nil, "digest"},
		"huge manifest": {bad(func(s *server) { s.manifests["1"] = make([]byte, 5<<20) }), "HOST/t/app:1", nil, "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t)
			d := srv.put(t, "1", layer("a", 5000))
			if c.break_ != nil {
				c.break_(t, srv)
			}
			s := store(t)
			ref := strings.NewReplacer("HOST", srv.host(), "DIGEST", d).Replace(c.ref)
			_, err := Pull(context.Background(), s, ref, Options{})
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, should be %v and speak of %q", err, c.is, c.says)
			}
			if list, err := s.List(); err != nil || len(list) != 0 {
				t.Errorf("images %v, %v", list, err)
			}
			if left, _ := filepath.Glob(s.Root() + "/layers/.new-*"); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestPullCanceled(t *testing.T) {
	srv := newServer(t)
	srv.put(t, "1", layer("a", 5000))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Pull(ctx, store(t), srv.host()+"/t/app:1", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestLogin(t *testing.T) {
	srv := newServer(t)
	srv.put(t, "1", layer("a", 10))
	srv.token = "tok"
	if _, err := Pull(context.Background(), store(t), srv.host()+"/t/app:1", Options{Username: "me", Password: "secret"}); err != nil {
		t.Errorf("given password: %v", err)
	}
	b, _ := json.Marshal(map[string]any{"auths": map[string]any{srv.host(): map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("me:secret"))}}})
	if err := os.WriteFile(os.Getenv("DOCKER_CONFIG")+"/config.json", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(context.Background(), store(t), srv.host()+"/t/app:1", Options{}); err != nil {
		t.Errorf("password of config.json: %v", err)
	}
	os.WriteFile(os.Getenv("DOCKER_CONFIG")+"/config.json", []byte("{"), 0o600)
	if _, err := Pull(context.Background(), store(t), srv.host()+"/t/app:1", Options{}); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("damaged config.json: %v", err)
	}
}

func TestPush(t *testing.T) {
	srv := newServer(t)
	srv.put(t, "1", layer("a", 100), layer("b", 300000))
	s := store(t)
	img, err := Pull(context.Background(), s, srv.host()+"/t/app:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	other := newServer(t)
	other.token = "tok"
	name := other.host() + "/t/app:2"
	if err := s.Tag(img.ID, name); err != nil {
		t.Fatal(err)
	}
	if _, err := Push(context.Background(), s, name, Options{}); !errors.Is(err, ErrDenied) {
		t.Errorf("without a login: %v", err)
	}
	opt := Options{Username: "me", Password: "secret"}
	d, err := Push(context.Background(), s, name, opt)
	if err != nil {
		t.Fatal(err)
	}
	back := store(t)
	got, err := Pull(context.Background(), back, name, opt)
	if err != nil || got.ID != img.ID || got.Manifest != d {
		t.Fatalf("pulled %v, %v", got, err)
	}
	verify(t, back, got, 2)
	if now, err := s.Get(name); err != nil || !strings.Contains(strings.Join(now.Digests, " "), other.host()+"/t/app@"+d) {
		t.Errorf("no digest after the push: %v, %v", now, err)
	}
	n := len(other.uploads)
	if _, err := Push(context.Background(), back, name, opt); err != nil || len(other.uploads) != n {
		t.Errorf("second push: %v, %d uploads more", err, len(other.uploads)-n)
	}
	if _, err := Push(context.Background(), s, "none:1", Options{}); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("push of nothing: %v", err)
	}
}

func TestParams(t *testing.T) {
	c := pickChallenge([]string{`Basic realm="x"`, `Bearer realm="https://a/b?c=d,e",service="q\"q", scope=plain,error="x"`})
	if c.scheme != "bearer" || c.params["realm"] != "https://a/b?c=d,e" || c.params["service"] != `q"q` || c.params["scope"] != "plain" || c.params["error"] != "x" {
		t.Errorf("%+v", c)
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="a",service=b`)
	f.Fuzz(func(t *testing.T, s string) { pickChallenge([]string{s}) })
}

func TestLoopback(t *testing.T) {
	for h, want := range map[string]bool{"localhost": true, "localhost:5000": true, "127.0.0.1:5": true, "127.9.9.9": true, "[::1]:5": true, "10.0.0.1:5": false,
		"localhost.evil.com": false, "127.0.0.1.evil.com": false, "example.com": false} {
		if isLoopback(h) != want {
			t.Errorf("isLoopback(%q) = %t", h, !want)
		}
	}
}
