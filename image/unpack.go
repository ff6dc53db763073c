package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// An unpacker writes one layer into a directory of its own.
type unpacker struct {
	stack  []node                // open directories; stack[0] is the layer's root
	below  func() (trees, error) // the layers below, topmost first; may wait for them to be ready
	xattr  string                // "trusted.overlay." or "user.overlay."
	rec    *recorder
	spend  func(int64) error // takes from the budget for expansion
	owners bool              // chown as the entries say: not as a plain user
	nodes  bool              // make device nodes: not in a user namespace

	old       int // directory for replaced content
	moves     []move
	files     int // contents in the recipe so far
	opaque    bool
	whiteouts bool
	rootSet   bool // the layer lists its root
	buf       []byte
}

// newUnpacker starts in the directory dir/fs, which exists and is empty.
func newUnpacker(dir string, in *rights, below func() (trees, error)) (*unpacker, error) {
	u := &unpacker{below: below, xattr: in.xattr, owners: in.owners, nodes: in.nodes, buf: make([]byte, 128<<10), old: -1}
	fd, err := unix.Open(dir+"/fs", dirFlags, 0)
	if err != nil {
		return nil, err
	}
	u.stack = []node{{fd: fd, bare: below == nil}}
	if u.old, err = unix.Open(dir+"/old", dirFlags, 0); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return u, nil
}

// unpack reads a tar through u.rec until its end.
func (u *unpacker) unpack() error {
	t := tar.NewReader(u.rec)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if n == maxEntries {
			return fmt.Errorf("read tar: more than %d entries", maxEntries)
		}
		if err := u.entry(t, h); err != nil {
			var bad *tarError
			if errors.As(err, &bad) {
				return fmt.Errorf("read tar: entry %q: %w", brief(h.Name), bad.err)
			}
			return fmt.Errorf("unpack %q: %w", brief(h.Name), err)
		}
	}
}

// tarError is an error of the stream and not of the file system.
type tarError struct{ err error }

func (e *tarError) Error() string { return e.err.Error() }

// entry unpacks one entry.
func (u *unpacker) entry(t *tar.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := inside(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root of a layer is a directory")
		}
		u.rootSet = true
		if err := u.leave(1); err != nil {
			return err
		}
		return u.dirMeta(u.top(), h)
	}
	comps := strings.Split(name, "/")
	parents, base := comps[:len(comps)-1], comps[len(comps)-1]
	for _, c := range parents {
		if strings.HasPrefix(c, whPrefix) {
			return nil
		}
	}
	if strings.HasPrefix(base, whPrefix) {
		return u.marker(parents, base)
	}
	if h.Typeflag == tar.TypeLink {
		return u.link(parents, base, h)
	}
	if err := u.enter(parents); err != nil {
		return err
	}
	at := u.top()
	if len(at.path)+1+len(base) >= maxPath {
		return unix.ENAMETOOLONG
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.dir(at, base, h)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(at, base, h, t)
	case tar.TypeSymlink:
		if h.Linkname == "" || strings.Contains(h.Linkname, "\x00") {
			return errors.New("symbolic link without a target")
		}
		return u.create(at, base, h, func() error { return unix.Symlinkat(h.Linkname, at.fd, base) })
	case tar.TypeFifo:
		return u.create(at, base, h, func() error { return unix.Mknodat(at.fd, base, unix.S_IFIFO|0o600, 0) })
	case tar.TypeChar, tar.TypeBlock:
		return u.device(at, base, h)
	}
	return fmt.Errorf("unsupported entry type %q", h.Typeflag)
}

// inside cleans a name: "" is the root. Absolute names start at the layer's
// root; one that leaves it by ".." is refused.
func inside(name string) (string, error) {
	if strings.Contains(name, "\x00") {
		return "", errors.New("name with a zero byte")
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", errors.New("name leaves the layer by .. in it")
	}
	if clean == "." {
		clean = ""
	}
	return clean, nil
}

func (u *unpacker) dir(at *node, base string, h *tar.Header) error {
	if err := at.touch(); err != nil {
		return err
	}
	opaque := false
	err := unix.Mkdirat(at.fd, base, 0o700)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err = unix.Fstatat(at.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && !isDir(&st) {
			opaque, err = u.mkdir(at, base)
		}
	}
	if err != nil {
		return err
	}
	bare := at.bare || opaque
	fd, err := unix.Openat(at.fd, base, dirFlags, 0)
	if err != nil {
		return err
	}
	u.push(fd, base, bare || u.opaque && isOpaque(fd, u.xattr)) // most often its children come next
	if opaque {
		if err := u.setOpaque(fd); err != nil {
			return err
		}
	}
	return u.dirMeta(u.top(), h)
}

// dirMeta gives an open directory the metadata of its entry. If something
// comes into it later, leaving it restores this time.
func (u *unpacker) dirMeta(n *node, h *tar.Header) error {
	if err := u.meta(n.fd, h); err != nil {
		return err
	}
	n.dirty = false
	return nil
}

func (u *unpacker) file(at *node, base string, h *tar.Header, t *tar.Reader) error {
	if err := at.touch(); err != nil {
		return err
	}
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at.fd, base, flags, 0o600)
	if err == unix.EEXIST {
		if err = u.clear(at, base); err == nil {
			fd, err = unix.Openat(at.fd, base, flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	err = u.content(fd, at.join(base), h, t)
	if err == nil {
		err = u.meta(fd, h)
	}
	return errors.Join(err, unix.Close(fd))
}

// content copies an entry's bytes, leaving holes for blocks of zeros.
func (u *unpacker) content(fd int, name string, h *tar.Header, t *tar.Reader) error {
	switch {
	case isSparse(h): // its size is only a claim; the recipe takes the bytes as they are in the tar
		if err := u.spend(h.Size); err != nil {
			return &tarError{fmt.Errorf("sparse file of %d bytes: %w", h.Size, err)}
		}
	case h.Size > 0:
		u.rec.file(name, h.Size)
		u.files++
		defer u.rec.done()
	}
	hole := false
	for off := int64(0); off < h.Size; {
		n, rerr := fill(t, u.buf[:min(int64(len(u.buf)), h.Size-off)])
		for b := u.buf[:n]; len(b) > 0; {
			var k int
			k, hole = run(b)
			if !hole {
				if err := pwrite(fd, b[:k], off); err != nil {
					return err
				}
			}
			off, b = off+int64(k), b[k:]
		}
		if rerr != nil && off < h.Size {
			return &tarError{eof(rerr)}
		}
	}
	if hole {
		return unix.Ftruncate(fd, h.Size)
	}
	return nil
}

var zeros [4096]byte // a block of most file systems

// run is how many bytes at the start of b are blocks of zeros, or are none.
func run(b []byte) (n int, hole bool) {
	const block = len(zeros)
	for n+block <= len(b) {
		z := bytes.Equal(b[n:n+block], zeros[:])
		if n == 0 {
			hole = z
		}
		if z != hole {
			return n, hole
		}
		n += block
	}
	if hole && n > 0 {
		return n, true
	}
	return len(b), false
}

func pwrite(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// isSparse: archive/tar hides the map, but not that there is one.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// create makes something that is neither a file nor a directory.
func (u *unpacker) create(at *node, base string, h *tar.Header, do func() error) error {
	if err := at.touch(); err != nil {
		return err
	}
	err := do()
	if err == unix.EEXIST {
		if err = u.clear(at, base); err == nil {
			err = do()
		}
	}
	if err != nil {
		return err
	}
	return u.metaAt(at.fd, base, h)
}

// device makes a device node. 0/0 is overlayfs's whiteout, and acts as one
// whoever wrote it: an image may hide its own files, so it stays.
func (u *unpacker) device(at *node, base string, h *tar.Header) error {
	kind, dev := uint32(unix.S_IFCHR), unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	if kind == unix.S_IFCHR && dev == 0 {
		return u.whiteout(strings.Split(at.path, "/"), base, true)
	}
	if !u.nodes {
		return nil // as docker: a user namespace cannot make it, and berth mounts the ones that matter
	}
	return u.create(at, base, h, func() error { return unix.Mknodat(at.fd, base, kind|0o600, int(dev)) })
}
