package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/berth-run/berth/image"
)

// A download reads one blob. When the connection breaks it asks for the rest,
// with a Range if the registry knows them; the reader notices nothing. The
// digest is checked by who reads.
type download struct {
	ctx    context.Context
	c      *client
	blob   image.Blob
	done   func() // called at the end of a whole blob
	off    int64
	good   int64 // off when the connection was made
	tries  int   // connections since some progress
	body   io.ReadCloser
	cancel context.CancelFunc
	watch  *time.Timer
}

var errSilent = fmt.Errorf("registry sent nothing for %s", idle)

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for {
		if d.body == nil {
			if d.off >= d.blob.Size && d.off > 0 {
				return 0, io.EOF
			}
			if err := d.connect(); err != nil {
				return 0, err
			}
		}
		d.watch.Reset(idle)
		n, err := d.body.Read(p)
		d.watch.Stop()
		d.off += int64(n)
		if n > 0 && (err == nil || err == io.EOF) {
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF && d.off >= d.blob.Size {
			d.hangUp()
			if d.done != nil {
				d.done()
				d.done = nil
			}
			return 0, io.EOF
		}
		if n > 0 { // what came is good; the next call reconnects
			d.hangUp()
			return n, nil
		}
		if err := d.again(err); err != nil {
			return 0, err
		}
	}
}

// again decides whether a broken connection is worth another.
func (d *download) again(err error) error {
	d.hangUp()
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if errors.Is(err, context.Canceled) {
		err = errSilent
	}
	if d.off > d.good {
		d.tries = 0
	}
	if d.tries++; d.tries > maxTries {
		return fmt.Errorf("connection broke after %d of %d bytes: %w", d.off, d.blob.Size, eof(err))
	}
	return sleep(d.ctx, backoff(d.tries-1))
}

func eof(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// connect asks for the blob from d.off on.
func (d *download) connect() error {
	ctx, cancel := context.WithCancel(d.ctx)
	h := http.Header{}
	if d.off > 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-", d.off))
	}
	resp, err := d.c.get(ctx, "/blobs/"+d.blob.Digest, h)
	if err != nil {
		cancel()
		return err
	}
	d.body, d.cancel, d.good = resp.Body, cancel, d.off
	d.watch = time.AfterFunc(idle, cancel)
	skip := int64(0)
	switch {
	case d.off == 0:
	case resp.StatusCode == http.StatusOK: // it knows no ranges: read what we have once more
		skip = d.off
	case !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", d.off)):
		d.hangUp()
		return fmt.Errorf("registry answered with another range: %q", resp.Header.Get("Content-Range"))
	}
	if skip > 0 {
		if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
			return d.again(err)
		}
	}
	return nil
}

func (d *download) hangUp() {
	if d.body != nil {
		d.watch.Stop()
		d.cancel()
		d.body.Close() // nothing more is expected from it
		d.body = nil
	}
}

// Close ends the connection.
func (d *download) Close() error {
	d.hangUp()
	return nil
}
