package cmd

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (a *app) exportCommand() *cli.Command {
	return &cli.Command{
		Usage: "write a container's file system as a tar archive", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{text("output,o", "file", "write this file instead of stdout")},
		Action: func(c *cli.Context) error {
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			root, release, err := ctr.Root()
			if err != nil {
				return err
			}
			defer release()
			return a.toFile(c.String("output"), "berth export -o FILE CONTAINER", func(w io.Writer) error { return writeTar(w, root) })
		},
	}
}

// exporter walks a tree by descriptors: no name in it is ever resolved as a
// path, so a container that swaps a folder for a link meanwhile leads nowhere.
type exporter struct {
	w     *tar.Writer
	dev   uint64
	links map[uint64]string // inode of a file with several names -> the first
}

func writeTar(w io.Writer, root *os.File) error {
	e := &exporter{w: tar.NewWriter(w), links: map[uint64]string{}}
	var st unix.Stat_t
	err := unix.Fstat(int(root.Fd()), &st)
	e.dev = st.Dev
	if err == nil {
		err = e.folder(root, "")
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return e.w.Close()
}

func (e *exporter) folder(f *os.File, rel string) error {
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	sort.Strings(names)
	for _, n := range names {
		if err := e.entry(int(f.Fd()), n, rel+n); err != nil {
			return fmt.Errorf("%s: %w", rel+n, err)
		}
	}
	return nil
}

// entry looks the name up once, and goes on with what it has found: a running
// container may put something else in its place.
func (e *exporter) entry(dir int, name, rel string) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	h := &tar.Header{
		Name: rel, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), Format: tar.FormatPAX,
		ModTime: time.Unix(st.Mtim.Sec, 0),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return e.subfolder(fd, h)
	case unix.S_IFREG:
		return e.file(fd, h, &st)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", buf) // of the descriptor itself, Linux 2.6.39
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(buf[:n])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil // a socket lives with its process only
	}
	return e.w.WriteHeader(h)
}

func (e *exporter) subfolder(path int, h *tar.Header) error {
	fd, err := unix.Openat(path, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	if err := errors.Join(e.attributes(fd, h), e.w.WriteHeader(h)); err != nil {
		return err
	}
	return e.folder(f, h.Name)
}

func (e *exporter) file(path int, h *tar.Header, st *unix.Stat_t) error {
	if first, ok := e.links[st.Ino]; ok && st.Dev == e.dev {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return e.w.WriteHeader(h)
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	if st.Nlink > 1 && st.Dev == e.dev {
		e.links[st.Ino] = h.Name
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if err := errors.Join(e.attributes(fd, h), e.w.WriteHeader(h)); err != nil {
		return err
	}
	// the file may grow or shrink while a running container writes it: the tar
	// keeps the size of the header
	n, err := io.Copy(e.w, io.LimitReader(f, st.Size))
	if err == nil && n < st.Size {
		_, err = io.CopyN(e.w, zeros{}, st.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// attributes are the extended ones that an image can have: file capabilities
// and the user's own. Those of overlayfs are the host's business.
func (e *exporter) attributes(fd int, h *tar.Header) error {
	buf := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, buf)
	if err != nil || n == 0 {
		return nil // none, or a file system without
	}
	for _, name := range splitZero(buf[:n]) {
		if name != "security.capability" && (len(name) < 5 || name[:5] != "user.") {
			continue
		}
		val := make([]byte, 64<<10)
		size, err := unix.Fgetxattr(fd, name, val)
		if err != nil {
			return err
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = string(val[:size])
	}
	return nil
}

func splitZero(b []byte) (out []string) {
	start := 0
	for i, c := range b {
		if c == 0 {
			out = append(out, string(b[start:i]))
			start = i + 1
		}
	}
	return out
}
