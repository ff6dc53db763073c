package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// What errors.Is finds in the errors of this package.
var (
	ErrNotFound  = errors.New("no such image")
	ErrAmbiguous = errors.New("more than one image has an id that starts so")
	ErrInUse     = errors.New("image is in use by a container")
	ErrManyNames = errors.New("image has several names")
)

// Store keeps images and layers below one state root; see the package's comment for the files.
type Store struct{ root string }

// Open returns the store below root. It creates nothing until something is written.
func Open(root string) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open image store %s: %w", root, err)
	}
	return &Store{root: abs}, nil
}

// Root is the directory that Layer.Dir is relative to.
func (s *Store) Root() string { return s.root }

func (s *Store) layers() string { return s.root + "/layers" }
func (s *Store) images() string { return s.root + "/images" }
func (s *Store) record(id string) string {
	return s.root + "/images/" + strings.TrimPrefix(id, "sha256:")
}

// Get finds an image by name, name@digest, id or the start of an id. The
// transports oci:, oci-archive: and docker-archive: load the image first, and
// give it no name. A plain name costs two small file reads.
func (s *Store) Get(ref string) (*Image, error) {
	for _, t := range [...]string{"oci:", "oci-archive:", "docker-archive:"} {
		if strings.HasPrefix(ref, t) {
			return s.LoadRef(context.Background(), ref, nil)
		}
	}
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	id, _, err := s.resolve(names, ref)
	if err != nil {
		return nil, err
	}
	return s.read(names, id)
}

// resolve turns what a user wrote into the id of an image that is here, and
// the complete name by which it was found; "" if by its id.
func (s *Store) resolve(names *nameIndex, ref string) (id, name string, err error) {
	if hx, ok := strings.CutPrefix(ref, "sha256:"); ok {
		id, err := s.byPrefix(ref, hx)
		return id, "", err
	}
	r, perr := Parse(ref)
	if perr == nil {
		if id := names.find(r.String()); id != "" {
			return id, r.String(), nil
		}
		// As podman: a short name may also be a local one.
		if rest, ok := strings.CutPrefix(r.String(), "docker.io/library/"); ok && !strings.HasPrefix(ref, "docker.io") {
			if id := names.find("localhost/" + rest); id != "" {
				return id, "localhost/" + rest, nil
			}
		}
	}
	if len(ref) >= 3 && isHex(ref) {
		id, err := s.byPrefix(ref, ref)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return id, "", err
		}
	}
	if perr != nil && !isHex(ref) {
		return "", "", perr
	}
	return "", "", fmt.Errorf("%w: %s", ErrNotFound, ref)
}

func (s *Store) byPrefix(ref, hx string) (string, error) {
	if !isHex(hx) || hx == "" || len(hx) > 64 {
		return "", fmt.Errorf("%w: %s", ErrNotFound, brief(ref))
	}
	if len(hx) == 64 {
		if _, err := os.Lstat(s.record(hx)); err == nil {
			return "sha256:" + hx, nil
		}
		return "", fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	found := ""
	for _, id := range ids {
		if strings.HasPrefix(id, "sha256:"+hx) {
			if found != "" {
				return "", fmt.Errorf("%w: %s", ErrAmbiguous, ref)
			}
			found = id
		}
	}
	if found == "" {
		return "", fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	return found, nil
}

// ids lists the images that have a record.
func (s *Store) ids() ([]string, error) {
	entries, err := os.ReadDir(s.images())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if n := e.Name(); len(n) == 64 && isHex(n) {
			ids = append(ids, "sha256:"+n)
		}
	}
	return ids, nil
}

func (s *Store) read(names *nameIndex, id string) (*Image, error) {
	b, err := os.ReadFile(s.record(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", shortDigest(id), err)
	}
	img, err := decodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", shortDigest(id), err)
	}
	img.ID = id
	img.Names, img.Digests = names.of(id)
	return img, nil
}

// List returns all images, in the order of their ids.
func (s *Store) List() ([]*Image, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var out []*Image
	for _, id := range ids {
		img, err := s.read(names, id)
		if errors.Is(err, ErrNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// Tag gives the image src the name dst; an image that had it loses it.
func (s *Store) Tag(src, dst string) error {
	r, err := Parse(dst)
	switch {
	case err != nil:
		return err
	case r.Transport != "":
		return fmt.Errorf("%w %q: a file cannot be a tag", ErrReference, dst)
	case r.Digest != "":
		return fmt.Errorf("%w %q: a tag cannot have a digest", ErrReference, dst)
	}
	return s.editNames(func(n *nameIndex) error {
		id, _, err := s.resolve(n, src)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(s.record(id)); err != nil {
			return fmt.Errorf("%w: %s", ErrNotFound, src)
		}
		n.set(r.String(), id)
		return nil
	})
}

// AddDigest notes that a registry knows the image as REPO@DIGEST.
func (s *Store) AddDigest(id, name string) error {
	r, err := Parse(name)
	if err != nil {
		return err
	}
	return s.editNames(func(n *nameIndex) error {
		if _, err := os.Lstat(s.record(id)); err != nil {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		n.set(r.String(), id)
		return nil
	})
}
