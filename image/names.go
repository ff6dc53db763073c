package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// nameIndex is the file images/names: lines "HEX name". A name may be
// REPO:TAG or REPO@DIGEST, and stands there once.
type nameIndex struct{ text string }

func (s *Store) readNames() (*nameIndex, error) {
	b, err := os.ReadFile(s.images() + "/names")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the names of images: %w", err)
	}
	return &nameIndex{string(b)}, nil
}

// find returns the id that has this complete name, or "".
func (n *nameIndex) find(name string) string {
	i := strings.Index(n.text, " "+name+"\n")
	if i < 64 {
		return ""
	}
	return "sha256:" + n.text[i-64:i]
}

// of returns the names of an image: those with a tag and those with a digest.
func (n *nameIndex) of(id string) (tags, digests []string) {
	key := strings.TrimPrefix(id, "sha256:") + " "
	for rest := n.text; ; {
		i := strings.Index(rest, key)
		if i < 0 {
			return tags, digests
		}
		name, after, _ := strings.Cut(rest[i+len(key):], "\n")
		if strings.Contains(name, "@") {
			digests = append(digests, name)
		} else {
			tags = append(tags, name)
		}
		rest = after
	}
}

func (n *nameIndex) set(name, id string) {
	n.drop(name)
	n.text += strings.TrimPrefix(id, "sha256:") + " " + name + "\n"
}

func (n *nameIndex) drop(name string) {
	if i := strings.Index(n.text, " "+name+"\n"); i >= 64 {
		n.text = n.text[:i-64] + n.text[i+len(name)+2:]
	}
}

// dropDangling removes names whose image is none of ids: a process was killed
// between the removal of the record and that of the name.
func (n *nameIndex) dropDangling(ids []string) {
	known := map[string]bool{}
	for _, id := range ids {
		known[id] = true
	}
	var b strings.Builder
	for l := range strings.Lines(n.text) {
		if hx, _, _ := strings.Cut(l, " "); known["sha256:"+hx] {
			b.WriteString(l)
		}
	}
	n.text = b.String()
}

// editNames changes the file under its lock, by one rename. change may also
// add and remove records: whoever holds the lock owns the folder images.
func (s *Store) editNames(change func(*nameIndex) error) error {
	lock, err := s.lock("images", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	s.sweepImages()
	n, err := s.readNames()
	if err != nil {
		return err
	}
	before := n.text
	if err := change(n); err != nil || n.text == before {
		return err
	}
	return s.writeFile("names", []byte(n.text))
}

// writeFile replaces a file of the folder images. The caller holds its lock.
func (s *Store) writeFile(name string, b []byte) error {
	tmp := s.images() + "/.new-" + name
	err := os.WriteFile(tmp, b, 0o600)
	if err == nil {
		err = os.Rename(tmp, s.images()+"/"+name)
	}
	if err != nil {
		return fmt.Errorf("write image store: %w", err)
	}
	return nil
}

// sweepImages removes what a killed writer left. The caller holds the lock.
func (s *Store) sweepImages() {
	entries, _ := os.ReadDir(s.images()) // a failure leaves garbage, and the next writer says what is wrong
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") {
			os.Remove(s.images() + "/" + e.Name())
		}
	}
}
