package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A layerRecord is the file layers/ID/record: lines as in an image's record.
type layerRecord struct {
	chain  string // ChainID
	diff   string // DiffID
	size   int64  // bytes of the tar
	opaque bool   // some directory is opaque
	blob   Blob   // how it came, if that is known; a push offers the registry this one first
	moves  []move
}

func (r *layerRecord) encode() []byte {
	var b []byte
	line := func(key string, vals ...string) {
		b = append(b, key...)
		for _, v := range vals {
			b = strconv.AppendQuote(append(b, ' '), v)
		}
		b = append(b, '\n')
	}
	line("chain", r.chain)
	line("diff", r.diff)
	line("size", strconv.FormatInt(r.size, 10))
	line("opaque", strconv.FormatBool(r.opaque))
	if r.blob.Digest != "" {
		line("blob", r.blob.MediaType, r.blob.Digest, strconv.FormatInt(r.blob.Size, 10))
	}
	for _, m := range r.moves {
		line("moved", m.path, strconv.Itoa(m.after))
	}
	return b
}

func readLayerRecord(dir string) (*layerRecord, error) {
	b, err := os.ReadFile(dir + "/record")
	if err != nil {
		return nil, err
	}
	r := &layerRecord{}
	for l := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n") {
		key, v, err := splitLine(l)
		if err == nil && len(v) < map[string]int{"blob": 3, "moved": 2}[key] || len(v) == 0 {
			err = errors.New("too few values")
		}
		if err == nil {
			err = r.set(key, v)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s/record: line %q: %w", errRecord, dir, brief(l), err)
		}
	}
	return r, nil
}

func (r *layerRecord) set(key string, v []string) (err error) {
	switch key {
	case "chain":
		r.chain = v[0]
	case "diff":
		r.diff = v[0]
	case "size":
		r.size, err = strconv.ParseInt(v[0], 10, 64)
	case "opaque":
		r.opaque, err = strconv.ParseBool(v[0])
	case "blob":
		r.blob.MediaType, r.blob.Digest = v[0], v[1]
		r.blob.Size, err = strconv.ParseInt(v[2], 10, 64)
	case "moved":
		m := move{path: v[0]}
		m.after, err = strconv.Atoi(v[1])
		r.moves = append(r.moves, m)
	}
	return err
}

// idLength is how many hex digits of the ChainID name a layer's folder: short,
// so that many lower directories fit in the page of mount(2)'s options. A
// stranger could make two layers that agree in them, so the record holds all
// of it, and a layer whose place is taken gets a longer name.
const idLength = 12

// findLayer returns the folder of the layer, or where it would be made.
func (s *Store) findLayer(chain string) (id string, rec *layerRecord, err error) {
	_, hx, _ := strings.Cut(chain, ":")
	for n := idLength; n <= len(hx); n++ {
		rec, err := readLayerRecord(s.layers() + "/" + hx[:n])
		if errors.Is(err, os.ErrNotExist) {
			return hx[:n], nil, nil
		}
		if err != nil {
			return "", nil, err
		}
		if rec.chain == chain {
			return hx[:n], rec, nil
		}
	}
	return "", nil, fmt.Errorf("layer %s: no free name", chain)
}

// newFolder makes layers/.new-*, locked by this process while lock is open.
func (s *Store) newFolder() (dir string, lock *os.File, err error) {
	for range 100 {
		dir, err = os.MkdirTemp(s.layers(), ".new-")
		if err != nil {
			return "", nil, err
		}
		if lock, err = lockFolder(dir, unix.LOCK_EX); lock == nil && err == nil {
			continue // a sweep took it before we had the lock
		}
		if err == nil {
			if err = os.Mkdir(dir+"/fs", 0o755); err == nil {
				err = os.Mkdir(dir+"/old", 0o700)
			}
		}
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
		return dir, lock, nil
	}
	return "", nil, errors.New("sweeps take every new folder")
}

// unpackLayer reads the blob from r and puts the layer into the store. All is
// checked before it gets its name: size and digest of the blob, digest of the
// tar, the tar itself. below is nil for the lowest layer.
func (s *Store) unpackLayer(ctx context.Context, rec *layerRecord, r io.Reader, in *rights, below func() (trees, error)) (err error) {
	dir, lock, err := s.newFolder()
	if err != nil {
		return fmt.Errorf("make folder for layer: %w", err)
	}
	defer lock.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := s.fillFolder(ctx, dir, rec, r, in, below); err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/record", rec.encode(), 0o600); err != nil {
		return err
	}
	if len(rec.moves) == 0 {
		if err := os.Remove(dir + "/old"); err != nil {
			return err
		}
	}
	id, have, err := s.findLayer(rec.chain)
	if err != nil {
		return err
	}
	if have == nil {
		err = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, s.layers()+"/"+id, unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return err
		}
	}
	return os.RemoveAll(dir) // another process was faster
}

func (s *Store) fillFolder(ctx context.Context, dir string, rec *layerRecord, r io.Reader, in *rights, below func() (trees, error)) (err error) {
	src := &counted{r: &cancelable{ctx, r}, limit: -1}
	if rec.blob.Digest != "" {
		src.h = newHash(rec.blob.Digest)
	}
	if rec.blob.Size >= 0 && rec.blob.Digest != "" {
		src.limit = rec.blob.Size
	}
	plain, err := decompress(src)
	if err != nil {
		return err
	}
	defer plain.Close()
	limit := &budget{r: plain, in: src}
	tarred := &counted{r: limit, h: newHash(rec.diff), limit: -1}
	early := readAhead(tarred)
	defer early.Close()

	f, err := os.OpenFile(dir+"/recipe", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	rc, err := newRecorder(early, f)
	if err != nil {
		return err
	}
	u, err := newUnpacker(dir, in, below)
	if err != nil {
		return err
	}
	defer u.close()
	u.rec, u.spend = rc, sparseBudget()
	err = u.unpack()
	if err == nil {
		_, err = io.Copy(io.Discard, rc) // what follows the end of the tar counts for the digest
	}
	if err != nil {
		early.Close()
		return damaged(src, rec, err)
	}
	if err := u.finish(); err != nil {
		return err
	}
	if err := errors.Join(rc.Close(), f.Close()); err != nil {
		return fmt.Errorf("write recipe: %w", err)
	}
	rec.size, rec.opaque, rec.moves = tarred.n, u.opaque, u.moves
	return check(src, tarred, rec)
}

// damaged turns the error of a stream that is not what was promised into one
// that says so: a wrong digest explains a bad tar, and not the other way round.
func damaged(src *counted, rec *layerRecord, err error) error {
	if src.h == nil || errors.Is(err, errBomb) || errors.Is(err, errLonger) {
		return err
	}
	// As far as it takes no long download to find out.
	if n, rerr := io.CopyN(io.Discard, src, 64<<20); rerr != io.EOF || n == 64<<20 {
		return err
	}
	if e := checkBlobRead(src, rec.blob); e != nil {
		return e
	}
	return err
}

// check holds what was read against what was promised.
func check(src, tarred *counted, rec *layerRecord) error {
	if _, err := io.Copy(io.Discard, src); err != nil {
		return err
	}
	if err := checkBlobRead(src, rec.blob); err != nil {
		return err
	}
	if got := digestOf(tarred.h, rec.diff); got != rec.diff {
		return fmt.Errorf("digest of the tar is %s, the configuration's diff_id is %s", got, rec.diff)
	}
	return nil
}

func checkBlobRead(src *counted, b Blob) error {
	if src.h == nil {
		return nil
	}
	if b.Size >= 0 && src.n != b.Size {
		return fmt.Errorf("size of the blob is %d bytes, its descriptor says %d", src.n, b.Size)
	}
	if got := digestOf(src.h, b.Digest); got != b.Digest {
		return fmt.Errorf("digest of the blob is %s, want %s", got, b.Digest)
	}
	return nil
}

// sparseBudget bounds what the sparse files of a layer may claim to hold: they
// have to be read to their end, and nobody's archive pays for that in bytes.
func sparseBudget() func(int64) error {
	left := int64(16 << 30)
	return func(n int64) error {
		if left -= n; n < 0 || left < 0 {
			return errors.New("sparse files of the layer claim more than 16 GiB")
		}
		return nil
	}
}

// finish gives the root its metadata: that of the layers below if this layer does not list it.
func (u *unpacker) finish() error {
	if err := u.leave(1); err != nil {
		return err
	}
	root := u.top()
	if u.rootSet {
		return u.leaveRoot()
	}
	if root.bare {
		if err := unix.Fchmod(root.fd, 0o755); err != nil {
			return err
		}
		root.mtime, root.dirty = [2]unix.Timespec{timespec(time.Unix(0, 0)), timespec(time.Unix(0, 0))}, true
		return u.leaveRoot()
	}
	ts, err := u.below()
	if err != nil {
		return err
	}
	from, err := unix.Openat(ts[0].fd, ".", dirFlags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return copyMeta(from, root.fd)
}

// leaveRoot puts the root's times back; it stays open.
func (u *unpacker) leaveRoot() error {
	if root := u.top(); root.dirty {
		return futimens(root.fd, root.mtime)
	}
	return nil
}

func (u *unpacker) close() {
	for _, n := range u.stack {
		unix.Close(n.fd)
	}
	unix.Close(u.old)
}
