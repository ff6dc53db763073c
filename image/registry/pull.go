package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/berth-run/berth/image"
)

// Options of Pull and Push; the zero value is right for most.
type Options struct {
	Platform string            // os/arch[/variant]; "" is this machine
	Progress func(line string) // called from several goroutines, one line at a time; may be nil
	Insecure bool              // plain http, and https without a known certificate, for other hosts than this one
	Parallel int               // layers at a time; 0: 3, as docker
	Username string            // instead of those of ~/.docker/config.json
	Password string
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

const maxManifest = 4 << 20 // bytes; what registries take
const maxConfig = 8 << 20

// accept lists what a registry may answer with.
const accept = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, " +
	"application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"

// Pull brings an image into the store and gives it its name. Layers that are
// there are not fetched again; those of a pull that failed stay for the next try.
func Pull(ctx context.Context, s *image.Store, ref string, opt Options) (*image.Image, error) {
	r, err := image.Parse(ref)
	if err != nil {
		return nil, err
	}
	if r.Transport != "" {
		return s.LoadRef(ctx, ref, opt.Progress)
	}
	img, err := pull(ctx, s, r, opt)
	if err != nil {
		return nil, explain("pull", r, err)
	}
	return img, nil
}

func pull(ctx context.Context, s *image.Store, r image.Reference, opt Options) (*image.Image, error) {
	platform, err := image.ParsePlatform(opt.Platform)
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, r, opt, "pull")
	if err != nil {
		return nil, err
	}
	defer c.http.CloseIdleConnections()
	top, m, config, err := c.manifest(ctx, r, platform)
	if err != nil {
		return nil, err
	}
	raw, err := c.small(ctx, *config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	a, err := s.Add(raw, *m)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	for i, l := range m.Layers {
		if a.Has(i) {
			opt.say("%s: already here", short(l.Digest))
		}
	}
	parallel := opt.Parallel
	if parallel <= 0 {
		parallel = 3
	}
	err = a.Fetch(ctx, parallel, func(ctx context.Context, i int) (io.ReadCloser, error) {
		l := m.Layers[i]
		opt.say("%s: pulling %s", short(l.Digest), size(l.Size))
		return &download{ctx: ctx, c: c, blob: l, done: func() { opt.say("%s: downloaded", short(l.Digest)) }}, nil
	})
	if err != nil {
		return nil, err
	}
	names := []string{r.Name() + "@" + top}
	if r.Tag != "" && r.Digest == "" {
		names = append([]string{r.String()}, names...)
	}
	return a.Commit(names...)
}

// manifest asks for what the reference names, and through an index for that
// of the platform. top is the digest of the first.
func (c *client) manifest(ctx context.Context, r image.Reference, p image.Platform) (top string, m *image.Manifest, config *image.Blob, err error) {
	want, which := r.Digest, r.Digest
	if which == "" {
		which = r.Tag
	}
	for depth := 0; depth < 3; depth++ {
		b, err := c.getManifest(ctx, which)
		if err != nil {
			return "", nil, nil, err
		}
		if want != "" {
			if err := image.Verify("manifest", b, want); err != nil {
				return "", nil, nil, err
			}
		}
		if top == "" {
			if top = want; top == "" {
				top = image.Digest(b)
			}
		}
		m, config, list, err := image.ParseManifest(b)
		if err != nil || m != nil {
			return top, m, config, err
		}
		d, err := image.Choose(list, p)
		if err != nil {
			return "", nil, nil, err
		}
		if err := image.CheckDigest(d.Digest); err != nil {
			return "", nil, nil, err
		}
		want, which = d.Digest, d.Digest
	}
	return "", nil, nil, errors.New("indexes are nested too deep")
}

func (c *client) getManifest(ctx context.Context, which string) ([]byte, error) {
	resp, err := c.get(ctx, "/manifests/"+which, http.Header{"Accept": {accept}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if t := resp.Header.Get("Content-Type"); strings.Contains(t, "manifest.v1+") && strings.Contains(t, "docker.distribution") {
		return nil, errors.New("registry has only the old schema 1 of this image, which cannot be verified")
	}
	b, err := readUpTo(resp.Body, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return b, nil
}

// small reads a whole blob of limited size.
func (c *client) small(ctx context.Context, b image.Blob, limit int64) ([]byte, error) {
	if b.Size > limit {
		return nil, fmt.Errorf("size %d is over the limit of %d bytes", b.Size, limit)
	}
	d := &download{ctx: ctx, c: c, blob: b}
	defer d.Close()
	raw, err := readUpTo(d, b.Size)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != b.Size {
		return nil, fmt.Errorf("size is %d bytes, its descriptor says %d", len(raw), b.Size)
	}
	return raw, image.Verify("blob", raw, b.Digest)
}

func readUpTo(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("size is over the limit of %d bytes", limit)
	}
	return b, err
}

func short(digest string) string {
	_, hx, _ := strings.Cut(digest, ":")
	return hx[:min(12, len(hx))]
}

// size in decimal units, as docker shows it.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
