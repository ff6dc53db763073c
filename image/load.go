package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Load takes in all images of an archive: docker's (manifest.json) or an OCI
// layout in a tar, plain, gzip or zstd. progress may be nil. Nothing is named
// unless all of the image came through.
func (s *Store) Load(ctx context.Context, r io.Reader, progress func(string)) ([]*Image, error) {
	src, err := openArchive(ctx, r, s.unnamedFile)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer src.Close()
	out, err := s.loadAll(ctx, src, progress)
	if err != nil {
		return out, fmt.Errorf("load: %w", err)
	}
	return out, nil
}

func (s *Store) loadAll(ctx context.Context, src *archive, progress func(string)) (out []*Image, err error) {
	if src.has("manifest.json") || src.has("repositories") {
		list, err := dockerImages(src)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			img, err := s.loadDocker(ctx, src, d, d.RepoTags, progress)
			if err != nil {
				return out, err
			}
			out = append(out, img.named(fullNames(d.RepoTags)))
		}
		return out, nil
	}
	if !src.has("index.json") {
		return nil, errors.New("not an image archive: it has neither manifest.json nor index.json")
	}
	list, err := layoutIndex(src)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no image in index.json")
	}
	for _, l := range list {
		names := fullNames(l.names)
		img, err := s.loadLayout(ctx, src, l.desc, names, Platform{}, progress)
		if err != nil {
			return out, err
		}
		out = append(out, img.named(names))
	}
	return out, nil
}

// named is the image with the names that the archive gives it: it may have had others.
func (img *Image) named(names []string) *Image {
	n := *img
	n.Names = names
	return &n
}

// fullNames keeps what is a name and not only a tag.
func fullNames(names []string) (out []string) {
	for _, n := range names {
		if r, err := Parse(n); err == nil && r.Transport == "" && strings.ContainsAny(n, "/:") {
			if full := r.String(); !slices.Contains(out, full) {
				out = append(out, full)
			}
		}
	}
	return out
}

// LoadRef loads what oci:PATH[:TAG], oci-archive:PATH[:TAG] or
// docker-archive:PATH[:TAG] names, and gives it no name.
func (s *Store) LoadRef(ctx context.Context, ref string, progress func(string)) (*Image, error) {
	r, err := Parse(ref)
	if err != nil {
		return nil, err
	}
	file, tag := splitTag(r.Path)
	img, err := s.loadRef(ctx, r.Transport, file, tag, progress)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", ref, err)
	}
	return img, nil
}

func (s *Store) loadRef(ctx context.Context, transport, file, tag string, progress func(string)) (*Image, error) {
	var src source
	var err error
	if transport == "oci" {
		src, err = openFolder(file)
	} else {
		src, err = s.openFile(ctx, file)
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if transport == "docker-archive" {
		list, err := dockerImages(src)
		if err != nil {
			return nil, err
		}
		d, err := pickDocker(list, tag)
		if err != nil {
			return nil, err
		}
		return s.loadDocker(ctx, src, d, nil, progress)
	}
	list, err := layoutIndex(src)
	if err != nil {
		return nil, err
	}
	d, err := pickLayout(list, tag)
	if err != nil {
		return nil, err
	}
	return s.loadLayout(ctx, src, d, nil, Platform{}, progress)
}

func (s *Store) openFile(ctx context.Context, file string) (source, error) {
	f, err := os.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return openArchive(ctx, f, s.unnamedFile)
}

// splitTag parts PATH from TAG, both of which may hold colons: the longest
// path that exists wins, else the first colon, as in skopeo.
func splitTag(s string) (file, tag string) {
	for i := len(s); i > 0; i = strings.LastIndexByte(s[:i], ':') {
		if _, err := os.Stat(s[:i]); err == nil {
			return s[:i], strings.TrimPrefix(s[i:], ":")
		}
	}
	file, tag, _ = strings.Cut(s, ":")
	return file, tag
}

// pickLayout chooses by tag; several entries of one tag are platforms.
func pickLayout(list []layoutImage, tag string) (Descriptor, error) {
	var match []Descriptor
	var all []string
	for _, l := range list {
		all = append(all, l.names...)
		if tag == "" || slices.Contains(l.names, tag) {
			match = append(match, l.desc)
		}
	}
	switch {
	case len(list) == 0:
		return Descriptor{}, fmt.Errorf("%w: no image in index.json", ErrNotFound)
	case len(match) == 0:
		return Descriptor{}, fmt.Errorf("%w: no tag %q; there is %s", ErrNotFound, tag, brief(strings.Join(all, " ")))
	case len(match) == 1:
		return match[0], nil
	case tag == "" && len(all) > 1:
		return Descriptor{}, fmt.Errorf("several images, add :TAG, one of %s", brief(strings.Join(all, " ")))
	}
	return Choose(match, Platform{})
}

func (s *Store) loadLayout(ctx context.Context, src source, d Descriptor, names []string, p Platform, progress func(string)) (*Image, error) {
	m, config, err := layoutManifest(src, d, p)
	if err != nil {
		return nil, err
	}
	raw, err := layoutBlob(src, "configuration "+shortDigest(config.Digest), *config, maxConfig)
	if err != nil {
		return nil, err
	}
	return s.take(ctx, raw, *m, names, progress, func(i int) (io.ReadCloser, error) {
		b := m.Layers[i]
		r, size, err := src.open(blobPath(b.Digest))
		if errors.Is(err, fs.ErrNotExist) && len(b.URLs) > 0 {
			return nil, fmt.Errorf("foreign layer %s is not in the layout, and its URL is not followed", shortDigest(b.Digest))
		}
		if err == nil && size != b.Size {
			err = errors.Join(fmt.Errorf("size is %d bytes, its descriptor says %d", size, b.Size), r.Close())
		}
		return r, err
	})
}

// take adds an image whose blobs can be opened in any order.
func (s *Store) take(ctx context.Context, config []byte, m Manifest, names []string, progress func(string), open func(i int) (io.ReadCloser, error)) (*Image, error) {
	a, err := s.Add(config, m)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	err = a.Fetch(ctx, 0, func(_ context.Context, i int) (io.ReadCloser, error) {
		if progress != nil {
			progress(fmt.Sprintf("unpacking layer %d of %d", i+1, len(m.Layers)))
		}
		return open(i)
	})
	if err != nil {
		return nil, err
	}
	return a.Commit(names...)
}
