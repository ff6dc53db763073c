package registry

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/berth-run/berth/image"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociGzip     = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Push gives the registry the image that has this name here. Blobs that it
// already has are not sent; a layer that was pulled keeps its blob if the
// registry still has that. It returns the digest of the manifest.
func Push(ctx context.Context, s *image.Store, ref string, opt Options) (digest string, err error) {
	r, err := image.Parse(ref)
	if err != nil {
		return "", err
	}
	if r.Transport != "" || r.Tag == "" {
		return "", fmt.Errorf("%w %q: push needs a name with a tag", image.ErrReference, ref)
	}
	img, err := s.Get(ref)
	if err != nil {
		return "", err
	}
	digest, err = push(ctx, s, img, r, opt)
	if err != nil {
		return "", explain("push", r, err)
	}
	return digest, s.AddDigest(img.ID, r.Name()+"@"+digest)
}

func push(ctx context.Context, s *image.Store, img *image.Image, r image.Reference, opt Options) (string, error) {
	c, err := dial(ctx, r, opt, "pull,push")
	if err != nil {
		return "", err
	}
	defer c.http.CloseIdleConnections()
	var layers []image.Blob
	for _, l := range img.Layers {
		b, err := c.pushLayer(ctx, s, l, opt)
		if err != nil {
			return "", err
		}
		layers = append(layers, b)
	}
	config := image.Blob{MediaType: ociConfig, Digest: img.ID, Size: int64(len(img.Raw))}
	if err := c.pushBlob(ctx, config, img.Raw); err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	if layers == nil {
		layers = []image.Blob{}
	}
	raw, err := json.Marshal(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        image.Blob   `json:"config"`
		Layers        []image.Blob `json:"layers"`
	}{2, ociManifest, config, layers})
	if err != nil {
		return "", err
	}
	h := http.Header{"Content-Type": {ociManifest}}
	resp, err := c.do(ctx, "PUT", c.url("/manifests/"+r.Tag), h, strings.NewReader(string(raw)), int64(len(raw)))
	if err := done(resp, err, http.StatusCreated, http.StatusOK, http.StatusAccepted); err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	return image.Digest(raw), nil
}

// done checks the status of an answer whose body does not matter.
func done(resp *http.Response, err error, want ...int) error {
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return err
	}
	for _, w := range want {
		if resp.StatusCode == w {
			return nil
		}
	}
	return statusError(resp)
}

// has asks for a blob; the HEAD also brings the challenge before anything is sent.
func (c *client) has(ctx context.Context, digest string) (bool, error) {
	resp, err := c.do(ctx, "HEAD", c.url("/blobs/"+digest), nil, nil, -1)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, &StatusError{Code: resp.StatusCode}
}

func (c *client) pushLayer(ctx context.Context, s *image.Store, l image.Layer, opt Options) (image.Blob, error) {
	info, err := s.Info(l)
	if err != nil {
		return image.Blob{}, err
	}
	if b := info.Blob; b.Digest != "" {
		switch ok, err := c.has(ctx, b.Digest); {
		case err != nil:
			return b, err
		case ok:
			opt.say("%s: already there", short(b.Digest))
			b.MediaType = ociType(b.MediaType)
			return b, nil
		}
	} else if _, err := c.has(ctx, l.DiffID); err != nil { // for the challenge
		return image.Blob{}, err
	}
	opt.say("%s: pushing %s", short(l.DiffID), size(info.Size))
	b, err := c.streamLayer(ctx, s, l)
	if err != nil {
		return b, fmt.Errorf("layer %s: %w", short(l.DiffID), err)
	}
	opt.say("%s: pushed", short(b.Digest))
	return b, nil
}

// ociType: an OCI manifest lists layers by OCI's types; docker's name the same bytes.
func ociType(t string) string {
	switch {
	case strings.HasSuffix(t, "gzip"):
		return ociGzip
	case strings.HasSuffix(t, "zstd"):
		return "application/vnd.oci.image.layer.v1.tar+zstd"
	}
	return "application/vnd.oci.image.layer.v1.tar"
}

// streamLayer compresses the layer into an upload, whose digest is told at its
// end: distribution-spec, "Pushing a blob in chunks", with one chunk.
func (c *client) streamLayer(ctx context.Context, s *image.Store, l image.Layer) (image.Blob, error) {
	to, err := c.upload(ctx)
	if err != nil {
		return image.Blob{}, err
	}
	pr, pw := io.Pipe()
	h := sha256.New()
	sent := &meter{w: io.MultiWriter(pw, h)}
	finished := make(chan error, 1)
	go func() {
		z, err := gzip.NewWriterLevel(sent, gzip.BestSpeed)
		if err == nil {
			_, err = s.CopyLayer(ctx, z, l)
			if err == nil {
				err = z.Close()
			}
		}
		pw.CloseWithError(err)
		finished <- err
	}()
	resp, err := c.do(ctx, "PATCH", to, http.Header{"Content-Type": {"application/octet-stream"}}, io.NopCloser(pr), -1)
	pr.Close()
	if werr := <-finished; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		if err == nil {
			resp.Body.Close()
		}
		return image.Blob{}, werr
	}
	next := ""
	if err == nil {
		next, err = c.location(resp)
	}
	if err := done(resp, err, http.StatusAccepted); err != nil {
		return image.Blob{}, err
	}
	b := image.Blob{MediaType: ociGzip, Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: sent.n}
	return b, c.commit(ctx, next, b.Digest, nil)
}

type meter struct {
	w io.Writer
	n int64
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.n += int64(n)
	return n, err
}

// pushBlob sends a small blob unless it is there.
func (c *client) pushBlob(ctx context.Context, b image.Blob, raw []byte) error {
	ok, err := c.has(ctx, b.Digest)
	if ok || err != nil {
		return err
	}
	to, err := c.upload(ctx)
	if err != nil {
		return err
	}
	return c.commit(ctx, to, b.Digest, raw)
}

// upload opens a session and returns where to send.
func (c *client) upload(ctx context.Context) (string, error) {
	resp, err := c.do(ctx, "POST", c.url("/blobs/uploads/"), nil, http.NoBody, 0)
	to := ""
	if err == nil {
		to, err = c.location(resp)
	}
	return to, done(resp, err, http.StatusAccepted)
}

// location is where the next request goes; it may be relative.
func (c *client) location(resp *http.Response) (string, error) {
	l := resp.Header.Get("Location")
	if l == "" {
		return "", nil // the status says why
	}
	u, err := resp.Request.URL.Parse(l)
	if err != nil {
		return "", fmt.Errorf("registry's Location: %w", err)
	}
	return u.String(), c.checkRedirect(&http.Request{URL: u}, nil)
}

// commit ends a session with the digest, and with raw if nothing was sent before.
func (c *client) commit(ctx context.Context, to, digest string, raw []byte) error {
	u, err := url.Parse(to)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("digest", digest)
	u.RawQuery = q.Encode()
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := c.do(ctx, "PUT", u.String(), h, strings.NewReader(string(raw)), int64(len(raw)))
	return done(resp, err, http.StatusCreated, http.StatusOK, http.StatusNoContent)
}
