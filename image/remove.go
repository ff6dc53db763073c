package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Remove takes a name away, or, by id, all of the image's single name. With
// the last name go the image and the layers that no other image has. inUse
// tells whether a container was made from the image; then nothing is changed
// and the error is ErrInUse. nil stands for never. done holds lines as docker
// prints them: "Untagged: NAME", "Deleted: sha256:…".
func (s *Store) Remove(ref string, inUse func(id string) bool) (done []string, err error) {
	err = s.editNames(func(n *nameIndex) error {
		id, name, err := s.resolve(n, ref)
		if err != nil {
			return err
		}
		tags, digests := n.of(id)
		if name == "" && repos(tags) > 1 {
			return fmt.Errorf("%w: %s: remove them one by one: %s", ErrManyNames, ref, strings.Join(tags, " "))
		}
		gone := append(tags[:len(tags):len(tags)], digests...)
		if name != "" {
			gone = append([]string{name}, orphans(tags, digests, name)...)
		}
		last := len(gone) >= len(tags)+len(digests)
		if last && inUse != nil && inUse(id) {
			return fmt.Errorf("%w: %s", ErrInUse, ref)
		}
		for _, g := range gone {
			n.drop(g)
			done = append(done, "Untagged: "+g)
		}
		if !last {
			return nil
		}
		// The names are written after this; one without a record is "no such image".
		if err := os.Remove(s.record(id)); err != nil {
			return fmt.Errorf("remove image %s: %w", ref, err)
		}
		done = append(done, "Deleted: "+id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = s.collect()
	return done, err
}

// Untag takes all names from an image and keeps it: what "rmi -f" does to one
// that a running container uses. Prune removes it later.
func (s *Store) Untag(ref string) (done []string, err error) {
	err = s.editNames(func(n *nameIndex) error {
		id, name, err := s.resolve(n, ref)
		if err != nil {
			return err
		}
		tags, digests := n.of(id)
		gone := append(tags[:len(tags):len(tags)], digests...)
		if name != "" {
			gone = append([]string{name}, orphans(tags, digests, name)...)
		}
		for _, g := range gone {
			n.drop(g)
			done = append(done, "Untagged: "+g)
		}
		return nil
	})
	return done, err
}

// orphans are the names with a digest whose repository had tags and now loses
// the last one: they came with it. One that was pulled by digest stays.
func orphans(tags, digests []string, gone string) (out []string) {
	for _, d := range digests {
		repo, _, _ := strings.Cut(d, "@")
		had, kept := false, false
		for _, t := range tags {
			if repoOf(t) == repo {
				had, kept = true, kept || t != gone
			}
		}
		if had && !kept {
			out = append(out, d)
		}
	}
	return out
}

func repoOf(tag string) string { return tag[:strings.LastIndexByte(tag, ':')] }

// repos counts the repositories that tags are of.
func repos(tags []string) int {
	seen := map[string]bool{}
	for _, t := range tags {
		seen[repoOf(t)] = true
	}
	return len(seen)
}

// Pruned is what Prune removed.
type Pruned struct {
	Lines []string // as of Remove
	Bytes int64    // of layers, as tar
}

// Prune removes images without a name (all: every image) that no container
// uses, unused layers, and what killed processes left behind.
func (s *Store) Prune(all bool, inUse func(id string) bool) (p Pruned, err error) {
	if _, err := os.Lstat(s.images()); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(s.layers()); errors.Is(err, fs.ErrNotExist) {
			return p, nil // an empty store stays one
		}
	}
	err = s.editNames(func(n *nameIndex) error {
		ids, err := s.ids()
		if err != nil {
			return err
		}
		for _, id := range ids {
			tags, digests := n.of(id)
			names := append(tags, digests...)
			if len(names) > 0 && !all || inUse != nil && inUse(id) {
				continue
			}
			for _, g := range names {
				n.drop(g)
				p.Lines = append(p.Lines, "Untagged: "+g)
			}
			if err := os.Remove(s.record(id)); err != nil {
				return fmt.Errorf("remove image %s: %w", shortDigest(id), err)
			}
			p.Lines = append(p.Lines, "Deleted: "+id)
		}
		n.dropDangling(ids)
		return nil
	})
	if err == nil {
		p.Bytes, err = s.collect()
	}
	return p, err
}

// collect removes the layers that no image has. While a load or pull runs it
// leaves a note instead, and whoever ends last does it.
func (s *Store) collect() (bytes int64, err error) {
	note := s.layers() + "/.collect"
	lock, err := s.lock("layers", unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return 0, os.WriteFile(note, nil, 0o600)
	}
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	bytes = s.sweepLayers()
	images, err := s.List() // nobody can add one: who adds holds the layers
	if err != nil {
		return 0, fmt.Errorf("remove unused layers: %w", err)
	}
	used := map[string]bool{}
	for _, i := range images {
		for _, l := range i.Layers {
			used[l.Dir] = true
		}
	}
	entries, err := os.ReadDir(s.layers())
	if err != nil {
		return 0, fmt.Errorf("remove unused layers: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if id := e.Name(); isHex(id) && !used["layers/"+id+"/fs"] {
			n, err := s.dropLayer(id)
			bytes, errs = bytes+n, append(errs, err)
		}
	}
	if err := os.Remove(note); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return bytes, errors.Join(errs...)
}

// dropLayer takes the name first, so that nobody finds half a layer.
func (s *Store) dropLayer(id string) (int64, error) {
	var size int64
	if rec, err := readLayerRecord(s.layers() + "/" + id); err == nil {
		size = rec.size
	}
	gone := s.layers() + "/.rm-" + id
	err := os.Rename(s.layers()+"/"+id, gone)
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return 0, fmt.Errorf("remove layer %s: %w", id, err)
	}
	return size, nil
}

// collectLater does what a collect that met a running load left to do. An error is the next one's to report.
func (s *Store) collectLater() {
	if _, err := os.Lstat(s.layers() + "/.collect"); err == nil {
		s.collect()
	}
}

// sweepLayers removes folders whose maker was killed. Those of living
// processes are locked. Errors leave garbage for the next one. It returns the
// bytes on the disk that became free.
func (s *Store) sweepLayers() (freed int64) {
	entries, _ := os.ReadDir(s.layers())
	for _, e := range entries {
		n := s.layers() + "/" + e.Name()
		if !strings.HasPrefix(e.Name(), ".new-") && !strings.HasPrefix(e.Name(), ".rm-") {
			continue
		}
		if lock, _ := lockFolder(n, unix.LOCK_EX|unix.LOCK_NB); lock != nil {
			size := diskUsage(n)
			if os.RemoveAll(n) == nil {
				freed += size
			}
			lock.Close()
		}
	}
	return freed
}

// diskUsage is what the files of a folder take, each link counted once.
func diskUsage(dir string) (bytes int64) {
	seen := map[uint64]bool{}
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be looked at does not count
		}
		if fi, err := d.Info(); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
				seen[st.Ino] = true
				bytes += st.Blocks * 512
			}
		}
		return nil
	})
	return bytes
}

// lockFolder locks a folder that others may remove. nil without error: it is gone.
func lockFolder(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	mine, err1 := f.Stat()
	now, err2 := os.Stat(dir)
	if err1 != nil || err2 != nil || !os.SameFile(mine, now) {
		f.Close()
		return nil, nil
	}
	return f, nil
}
