package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"crypto/sha256"
)

// History is one line of "history": image-spec, config.md.
type History struct {
	Created    time.Time `json:"created"`
	CreatedBy  string    `json:"created_by,omitempty"`
	Author     string    `json:"author,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	EmptyLayer bool      `json:"empty_layer,omitempty"`
}

// History returns how the image was made, oldest first; what cannot be read is left out.
func (i *Image) History() []History {
	var c struct {
		History []History `json:"history"`
	}
	if err := json.Unmarshal(i.Raw, &c); err != nil {
		return nil
	}
	return c.History
}

// NewImage describes an image that is made here.
type NewImage struct {
	Config  Config // of the new image
	History History
	Name    string // "" leaves it without
}

// Import makes an image with one layer from a tar, plain or compressed, of a
// whole root file system.
func (s *Store) Import(ctx context.Context, r io.Reader, n NewImage) (*Image, error) {
	if n.Name != "" {
		if ref, err := Parse(n.Name); err != nil {
			return nil, err
		} else if ref.Transport != "" || ref.Digest != "" {
			return nil, fmt.Errorf("%w %q: want a name with a tag", ErrReference, n.Name)
		}
	}
	img, err := s.importLayer(ctx, r, n)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return img, nil
}

func (s *Store) importLayer(ctx context.Context, r io.Reader, n NewImage) (*Image, error) {
	f, diff, err := s.spool(ctx, r)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := newConfig(n, diff)
	if err != nil {
		return nil, err
	}
	a, err := s.Add(raw, Manifest{Layers: make([]Blob, 1)})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	err = a.Fetch(ctx, 1, func(context.Context, int) (io.ReadCloser, error) {
		return io.NopCloser(bufio.NewReader(f)), nil
	})
	if err != nil {
		return nil, err
	}
	if n.Name == "" {
		return a.Commit()
	}
	return a.Commit(n.Name)
}

// spool decompresses a tar into a file without a name and returns its digest.
func (s *Store) spool(ctx context.Context, r io.Reader) (*os.File, string, error) {
	in := &counted{r: &cancelable{ctx, r}, limit: -1}
	plain, err := decompress(in)
	if err != nil {
		return nil, "", err
	}
	defer plain.Close()
	f, err := s.unnamedFile()
	if err != nil {
		return nil, "", err
	}
	h := sha256.New()
	if _, err = io.CopyBuffer(io.MultiWriter(f, h), &budget{r: plain, in: in}, make([]byte, 256<<10)); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	return f, digestOf(h, "sha256:"), nil
}

// newConfig writes the configuration of an image with one layer.
func newConfig(n NewImage, diff string) ([]byte, error) {
	if n.History.Created.IsZero() {
		n.History.Created = time.Now().UTC()
	}
	type rootfs struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	return json.Marshal(struct {
		Created      time.Time `json:"created"`
		Author       string    `json:"author,omitempty"`
		Architecture string    `json:"architecture"`
		OS           string    `json:"os"`
		Config       Config    `json:"config"`
		RootFS       rootfs    `json:"rootfs"`
		History      []History `json:"history"`
	}{n.History.Created, n.History.Author, runtime.GOARCH, "linux", n.Config, rootfs{"layers", []string{diff}}, []History{n.History}})
}
