package image

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"
)

// A recipe makes the layer's tar again from the unpacked files, byte for byte,
// so that neither the tar nor the blob need be kept (the idea of
// github.com/vbatts/tar-split). It is a gzip stream of
//
//	'L' uvarint length, bytes                bytes of the tar as they were
//	'F' uvarint length, path, uvarint size   the content of a file
//
// Paths are those of the file at the time; where it went when a later entry
// took its name stands in the layer's record ("moved").
type recorder struct {
	r       io.Reader
	z       *gzip.Writer
	out     *bufio.Writer
	pending []byte
	content bool // the bytes read now are a file's content
	err     error
}

// newRecorder writes the recipe of what is read through it to w.
func newRecorder(r io.Reader, w io.Writer) (*recorder, error) {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	return &recorder{r: r, z: z, out: bufio.NewWriterSize(z, 32<<10)}, err
}

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if !c.content && n > 0 {
		c.pending = append(c.pending, p[:n]...)
		if len(c.pending) > 64<<10 {
			c.flush()
		}
	}
	return n, err
}

func (c *recorder) flush() {
	if len(c.pending) > 0 {
		c.put('L', len(c.pending), c.pending)
		c.pending = c.pending[:0]
	}
}

func (c *recorder) put(kind byte, n int, b []byte) {
	head := binary.AppendUvarint([]byte{kind}, uint64(n))
	_, err := c.out.Write(head)
	if err == nil {
		_, err = c.out.Write(b)
	}
	if err != nil && c.err == nil {
		c.err = err
	}
}

// file says that the next size bytes are the content of path; done ends it.
func (c *recorder) file(path string, size int64) {
	c.flush()
	c.put('F', len(path), binary.AppendUvarint([]byte(path), uint64(size)))
	c.content = true
}

func (c *recorder) done() { c.content = false }

// Close flushes everything.
func (c *recorder) Close() error {
	c.flush()
	err := c.err
	if err == nil {
		err = c.out.Flush()
	}
	return errors.Join(err, c.z.Close())
}

// A move tells where a file went that a later entry of its layer replaced.
// path and all below it lie at old/N since segment (the count of 'F') after.
type move struct {
	path  string
	after int
}

// tarReader replays a recipe.
type tarReader struct {
	dir   *os.File // layers/ID
	in    *bufio.Reader
	z     *gzip.Reader
	f     *os.File
	moves []move
	seg   int
	cur   io.Reader
	left  int64
	want  *os.File // the open content file, nil within literals
}

// OpenLayer returns the tar of a layer as it was when it came: the bytes whose
// digest is the DiffID. The caller checks that digest; a layer that somebody
// changed on disk gives other bytes or an error.
func (s *Store) OpenLayer(l Layer) (io.ReadCloser, error) {
	dir := s.root + "/" + strings.TrimSuffix(l.Dir, "/fs")
	rec, err := readLayerRecord(dir)
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", shortDigest(l.DiffID), err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", shortDigest(l.DiffID), err)
	}
	t := &tarReader{dir: d, moves: rec.moves}
	if t.f, err = os.Open(dir + "/recipe"); err == nil {
		if t.z, err = gzip.NewReader(t.f); err == nil {
			t.in = bufio.NewReader(t.z)
			return t, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("open layer %s: recipe: %w", shortDigest(l.DiffID), err), t.Close())
}

// Close closes all files.
func (t *tarReader) Close() error {
	err := t.dir.Close()
	if t.f != nil {
		err = errors.Join(err, t.f.Close())
	}
	if t.want != nil {
		err = errors.Join(err, t.want.Close())
	}
	return err
}

func (t *tarReader) Read(p []byte) (int, error) {
	for t.left == 0 {
		if t.want != nil {
			if err := t.want.Close(); err != nil {
				return 0, err
			}
			t.want = nil
		}
		if err := t.next(); err != nil {
			return 0, err
		}
	}
	n, err := t.cur.Read(p[:min(int64(len(p)), t.left)])
	t.left -= int64(n)
	if n > 0 {
		err = nil
	}
	return n, eof(err)
}

// next starts the next piece; io.EOF after the last.
func (t *tarReader) next() error {
	kind, err := t.in.ReadByte()
	if err != nil {
		return err
	}
	n, err := binary.ReadUvarint(t.in)
	if err != nil {
		return fmt.Errorf("recipe: %w", eof(err))
	}
	if kind == 'L' {
		t.cur, t.left = t.in, int64(n)
		return nil
	}
	if kind != 'F' || n > maxPath {
		return errors.New("recipe: damaged")
	}
	path := make([]byte, n)
	if _, err := io.ReadFull(t.in, path); err != nil {
		return fmt.Errorf("recipe: %w", eof(err))
	}
	size, err := binary.ReadUvarint(t.in)
	if err != nil {
		return fmt.Errorf("recipe: %w", eof(err))
	}
	where, top := string(path), "fs"
	for i, m := range t.moves {
		if rest, ok := under(m.path, where); ok && t.seg < m.after {
			where, top = fmt.Sprintf("%d%s", i, rest), "old"
			break
		}
	}
	t.seg++
	base, err := unix.Openat(int(t.dir.Fd()), top, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open folder of layer", Path: top, Err: err}
	}
	defer unix.Close(base)
	fd, err := unix.Openat2(base, where, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return &os.PathError{Op: "open file of layer", Path: brief(where), Err: err}
	}
	t.want = os.NewFile(uintptr(fd), where)
	t.cur, t.left = t.want, int64(size)
	return nil
}

// under tells whether path is dir or below it, and the rest.
func under(dir, path string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}
