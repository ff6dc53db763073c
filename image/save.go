package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

// LayerInfo is what the store knows about a layer besides its files.
type LayerInfo struct {
	Size int64 // bytes of the tar
	Blob Blob  // how it was pulled; Digest "" if it was not
}

// Info reads a layer's record.
func (s *Store) Info(l Layer) (LayerInfo, error) {
	rec, err := readLayerRecord(s.root + "/" + strings.TrimSuffix(l.Dir, "/fs"))
	if err != nil {
		return LayerInfo{}, fmt.Errorf("read layer %s: %w", shortDigest(l.DiffID), err)
	}
	return LayerInfo{rec.size, rec.blob}, nil
}

// VerifyLayer makes the layer's tar again and holds it against its DiffID:
// files that were changed, lost or damaged on disk show up as an error.
// Attributes are part of the recipe and not looked at.
func (s *Store) VerifyLayer(ctx context.Context, l Layer) error {
	_, err := s.CopyLayer(ctx, io.Discard, l)
	return err
}

// CopyLayer writes the layer's tar to w and returns its size; an error if it is not the DiffID's.
func (s *Store) CopyLayer(ctx context.Context, w io.Writer, l Layer) (int64, error) {
	r, err := s.OpenLayer(l)
	if err != nil {
		return 0, err
	}
	h := newHash(l.DiffID)
	n, err := copyHashed(ctx, w, r, h)
	if err = errors.Join(err, r.Close()); err != nil {
		return n, fmt.Errorf("layer %s: %w", shortDigest(l.DiffID), err)
	}
	if got := digestOf(h, l.DiffID); got != l.DiffID {
		return n, fmt.Errorf("layer %s is damaged: its digest is now %s", l.DiffID, got)
	}
	return n, nil
}

func copyHashed(ctx context.Context, w io.Writer, r io.Reader, h hash.Hash) (int64, error) {
	early := readAhead(&counted{r: &cancelable{ctx, r}, h: h, limit: -1})
	n, err := io.Copy(w, early)
	return n, errors.Join(err, early.Close())
}

// Save writes a docker archive with the images that refs name
// (moby, image/spec/spec.md), which Load and others read. Layers that several
// have are written once.
func (s *Store) Save(ctx context.Context, w io.Writer, refs ...string) error {
	t := tar.NewWriter(w)
	var list []dockerImage
	at := map[string]int{} // image id -> place in list
	done := map[string]bool{}
	for _, ref := range refs {
		img, err := s.Get(ref)
		if err != nil {
			return err
		}
		if _, ok := at[img.ID]; !ok {
			d, err := s.saveOne(ctx, t, img, done)
			if err != nil {
				return fmt.Errorf("save %s: %w", ref, err)
			}
			at[img.ID] = len(list)
			list = append(list, d)
		}
		if r, err := Parse(ref); err == nil && r.Tag != "" && r.Transport == "" {
			for _, n := range img.Names { // by id or by the start of one it has no tag in the archive
				if n == r.String() || n == "localhost/"+strings.TrimPrefix(r.String(), "docker.io/library/") {
					d := &list[at[img.ID]]
					d.RepoTags = append(d.RepoTags, familiar(n))
				}
			}
		}
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := putFile(t, "manifest.json", raw); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

func familiar(name string) string {
	r, err := Parse(name)
	if err != nil {
		return name
	}
	return r.Familiar()
}

func (s *Store) saveOne(ctx context.Context, t *tar.Writer, img *Image, done map[string]bool) (dockerImage, error) {
	d := dockerImage{Config: strings.TrimPrefix(img.ID, "sha256:") + ".json", Layers: []string{}}
	if err := putFile(t, d.Config, img.Raw); err != nil {
		return d, err
	}
	for _, l := range img.Layers {
		_, hx, _ := strings.Cut(l.DiffID, ":")
		name := hx + ".tar"
		d.Layers = append(d.Layers, name)
		if done[name] {
			continue
		}
		done[name] = true
		info, err := s.Info(l)
		if err != nil {
			return d, err
		}
		if err := t.WriteHeader(fileHeader(name, info.Size)); err != nil {
			return d, err
		}
		if _, err := s.CopyLayer(ctx, t, l); err != nil {
			return d, err
		}
	}
	return d, nil
}

func fileHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

func putFile(t *tar.Writer, name string, b []byte) error {
	err := t.WriteHeader(fileHeader(name, int64(len(b))))
	if err == nil {
		_, err = t.Write(b)
	}
	return err
}
