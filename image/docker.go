package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// dockerImage is one entry of an archive's manifest.json
// (moby, image/spec/spec.md, "Combined Image JSON + Filesystem Changeset Format").
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func dockerImages(src source) ([]dockerImage, error) {
	raw, err := readAll(src, "manifest.json", maxManifest)
	if err != nil {
		return nil, fmt.Errorf("not a docker archive: %w", err)
	}
	var list []dockerImage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("no image in manifest.json")
	}
	return list, nil
}

// pickDocker chooses by tag, or the only image.
func pickDocker(list []dockerImage, tag string) (dockerImage, error) {
	if tag == "" {
		if len(list) == 1 {
			return list[0], nil
		}
		var all []string
		for _, d := range list {
			all = append(all, d.RepoTags...)
		}
		return dockerImage{}, fmt.Errorf("%d images, add :TAG, one of %s", len(list), brief(strings.Join(all, " ")))
	}
	want, err := Parse(tag)
	if err != nil {
		return dockerImage{}, err
	}
	for _, d := range list {
		for _, t := range d.RepoTags {
			if r, err := Parse(t); err == nil && (r.String() == want.String() || r.Tag == tag) {
				return d, nil
			}
		}
	}
	return dockerImage{}, fmt.Errorf("%w: no tag %q in the archive", ErrNotFound, tag)
}

func (s *Store) loadDocker(ctx context.Context, src source, d dockerImage, names []string, progress func(string)) (*Image, error) {
	raw, err := readAll(src, d.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	// docker names the file by its digest: HEX.json, or blobs/sha256/HEX
	if hx := strings.TrimSuffix(path.Base(d.Config), ".json"); len(hx) == 64 && isHex(hx) {
		if err := Verify("configuration", raw, "sha256:"+hx); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		if _, err := Parse(n); err != nil {
			return nil, err
		}
	}
	m := Manifest{Layers: make([]Blob, len(d.Layers))}
	return s.take(ctx, raw, m, names, progress, func(i int) (io.ReadCloser, error) {
		r, _, err := src.open(d.Layers[i])
		return r, err
	})
}
