package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A Blob is what a manifest says about a layer as it travels: a descriptor of image-spec.
type Blob struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"` // "" when nothing but the DiffID is known
	Size      int64    `json:"size"`   // bytes; -1 when unknown
	URLs      []string `json:"urls,omitempty"`
}

// counted reads from r at most limit bytes and hashes and counts them.
type counted struct {
	r     io.Reader
	h     hash.Hash // nil: only count
	n     int64
	limit int64 // -1: none
}

var errLonger = errors.New("size is larger than its descriptor says")

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.h != nil {
		c.h.Write(p[:n])
	}
	if c.limit >= 0 && c.n > c.limit {
		return 0, errLonger
	}
	return n, err
}

// budget fails once r has given more than the compressed input justifies.
type budget struct {
	r   io.Reader
	in  *counted
	out int64
}

// errBomb is the documented limit on expansion.
var errBomb = fmt.Errorf("expands to more than %d times its compressed size", maxRatio)

func (b *budget) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if e := b.spend(int64(n)); e != nil {
		return 0, e
	}
	return n, err
}

// spend counts n bytes of output, also ones that a sparse file only claims to have.
func (b *budget) spend(n int64) error {
	b.out += n
	if b.out-freeExpansion > b.in.n*maxRatio || b.out < 0 {
		return errBomb
	}
	return nil
}

// decompress finds out the compression by the first bytes, as docker does.
// Closing the result does not close r.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 128<<10)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}): // RFC 1952
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", eof(err))
		}
		return &packed{z, "gzip", z.Close}, nil
	case isZstd(magic):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", eof(err))
		}
		return &packed{z, "zstd", func() error { z.Close(); return nil }}, nil
	}
	return io.NopCloser(br), nil
}

// isZstd: a frame, or a skippable frame before one (RFC 8878, 3.1).
func isZstd(m []byte) bool {
	return len(m) == 4 && (bytes.Equal(m, []byte{0x28, 0xb5, 0x2f, 0xfd}) || m[0]&0xf0 == 0x50 && m[1] == 0x2a && m[2] == 0x4d && m[3] == 0x18)
}

// eof names an end that came too early: no reader of a header means io.EOF by "done".
func eof(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

type packed struct {
	r     io.Reader
	name  string
	close func() error
}

func (p *packed) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF && !errors.Is(err, errLonger) {
		if !strings.HasPrefix(err.Error(), p.name) { // gzip's own errors say so
			err = fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return n, err
}
func (p *packed) Close() error { return p.close() }

// ahead reads in a goroutine of its own, so that unpacking on one core and
// decompressing and hashing on another overlap.
type ahead struct {
	full  chan []byte
	empty chan []byte
	stop  chan struct{}
	once  sync.Once
	done  chan struct{}
	err   error // of the source; valid once full is closed
	cur   []byte
	rest  []byte
}

func readAhead(r io.Reader) *ahead {
	const buffers, size = 4, 256 << 10
	a := &ahead{full: make(chan []byte, buffers), empty: make(chan []byte, buffers), stop: make(chan struct{}), done: make(chan struct{})}
	for range buffers {
		a.empty <- nil
	}
	go func() {
		defer close(a.done)
		defer close(a.full)
		for {
			var b []byte
			select {
			case <-a.stop:
				return
			case b = <-a.empty:
			}
			if b == nil {
				b = make([]byte, size)
			}
			n, err := fill(r, b[:size])
			if n > 0 {
				a.full <- b[:n]
			}
			if err != nil {
				a.err = err
				return
			}
		}
	}()
	return a
}

// fill is io.ReadFull that keeps the source's own error.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur != nil {
			a.empty <- a.cur
			a.cur = nil
		}
		b, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		a.cur, a.rest = b, b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the goroutine and waits for it: after that the source is the caller's again.
func (a *ahead) Close() error {
	a.once.Do(func() { close(a.stop) })
	for range a.full {
	}
	<-a.done
	return nil
}

// cancelable ends reads when the context ends.
type cancelable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// checkMediaType refuses what is no tar of a layer. An empty type is one from a docker archive.
// image-spec, media-types.md and layer.md; docker's image manifest v2, schema 2.
func checkMediaType(t string) error {
	switch t {
	case "",
		"application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd":
		return nil
	}
	if strings.Contains(t, ".nondistributable.") || strings.Contains(t, ".foreign.") {
		return nil // the same bytes with a legal note; if they are there, they are unpacked
	}
	return fmt.Errorf("unsupported media type %q of a layer", brief(t))
}
