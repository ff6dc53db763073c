package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A source is a place with files: the folder of an OCI layout, or an archive.
type source interface {
	// open returns a regular file and its size; fs.ErrNotExist if there is none.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// readAll reads a small file of a source.
func readAll(src source, name string, limit int64) ([]byte, error) {
	r, size, err := src.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > limit {
		return nil, fmt.Errorf("%s: size %d is over the limit of %d bytes", name, size, limit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, eof(err))
	}
	return b, nil
}

// folder is a layout on disk. No link in it leads out of it.
type folder struct{ root *os.Root }

func openFolder(dir string) (source, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return folder{r}, nil
}

func (f folder) Close() error { return f.root.Close() }

func (f folder) open(name string) (io.ReadCloser, int64, error) {
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a fifo must not hang us
	if err != nil {
		return nil, 0, err
	}
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, st.Size(), nil
}

// archive is a tar file, read at any place: which layer comes first is known
// only from files that may stand at its end.
type archive struct {
	f     *os.File
	files map[string]piece
}

// piece is one file of an archive, or, with link, another name for one.
type piece struct {
	off, size int64
	link      string
}

// openArchive lists the tar in r. What cannot be read at any place, a pipe or
// a compressed file, goes through a file without a name in the folder tmp:
// it vanishes with the process.
func openArchive(ctx context.Context, r io.Reader, tmp func() (*os.File, error)) (*archive, error) {
	f, err := seekable(ctx, r, tmp)
	if err != nil {
		return nil, err
	}
	a := &archive{f: f, files: map[string]piece{}}
	if err := a.list(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

func seekable(ctx context.Context, r io.Reader, tmp func() (*os.File, error)) (*os.File, error) {
	if f, ok := r.(*os.File); ok {
		st, err := f.Stat()
		if err == nil && st.IsDir() {
			return nil, errors.New("is a directory, want an archive")
		}
		if err == nil && st.Mode().IsRegular() {
			var magic [4]byte
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			if n, _ := f.ReadAt(magic[:], at); n == 4 && at == 0 && magic[0] != 0x1f && !isZstd(magic[:]) {
				return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd())) // of our own, with an offset of its own
			}
		}
	}
	in := &counted{r: &cancelable{ctx, r}, limit: -1}
	plain, err := decompress(in)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	f, err := tmp()
	if err != nil {
		return nil, err
	}
	if _, err = io.CopyBuffer(f, bufio.NewReader(&budget{r: plain, in: in}), make([]byte, 256<<10)); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (a *archive) list() error {
	t := tar.NewReader(a.f) // it seeks over contents
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if len(a.files) == maxArchive {
			return fmt.Errorf("read tar: more than %d files", maxArchive)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if isSparse(h) {
				return fmt.Errorf("read tar: %q: unsupported sparse file", brief(name))
			}
			off, err := a.f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.files[name] = piece{off: off, size: h.Size}
		case tar.TypeSymlink:
			a.files[name] = piece{link: path.Join(path.Dir(name), h.Linkname)}
			if path.IsAbs(h.Linkname) {
				a.files[name] = piece{link: h.Linkname} // names nothing in here
			}
		case tar.TypeLink:
			a.files[name] = piece{link: path.Clean(h.Linkname)}
		}
	}
	st, err := a.f.Stat()
	if err != nil {
		return err
	}
	for name, p := range a.files { // seeking goes past the end without a word
		if p.off+p.size > st.Size() {
			return fmt.Errorf("read tar: %q: %w", brief(name), io.ErrUnexpectedEOF)
		}
	}
	return nil
}

func (a *archive) Close() error { return a.f.Close() }

func (a *archive) has(name string) bool { _, ok := a.files[name]; return ok }

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	at := path.Clean(name)
	for range maxLinks {
		p, ok := a.files[at]
		if !ok {
			if at != path.Clean(name) {
				return nil, 0, fmt.Errorf("%s leads to %s, which is not in the archive: %w", brief(name), brief(at), fs.ErrNotExist)
			}
			return nil, 0, fmt.Errorf("%s is not in the archive: %w", brief(name), fs.ErrNotExist)
		}
		if p.link == "" {
			return io.NopCloser(io.NewSectionReader(a.f, p.off, p.size)), p.size, nil
		}
		at = strings.TrimPrefix(p.link, "./")
	}
	return nil, 0, fmt.Errorf("%s: %w", brief(name), unix.ELOOP)
}

// unnamedFile makes a file that no directory lists: open(2), O_TMPFILE.
func (s *Store) unnamedFile() (*os.File, error) {
	lock, err := s.lock("layers", unix.LOCK_SH) // for the folder
	if err != nil {
		return nil, err
	}
	lock.Close()
	fd, err := unix.Open(s.layers(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make temporary file in %s: %w", s.layers(), err)
	}
	return os.NewFile(uintptr(fd), "archive"), nil
}
