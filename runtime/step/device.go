package step

import (
	"encoding/binary"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// Node makes a device node or FIFO in the container (mknod(2)).
type Node struct {
	Root         *Result
	Path         string
	Mode         uint32 // type and permissions
	Major, Minor uint32
	UID, GID     uint32

	In *Result // its directory, if OpenDir has opened it

	OrBind bool // where mknod is refused (by the device filter of a cgroup above, say) the host's node is bound
}

func (s Node) String() string {
	kind := [...]string{unix.S_IFCHR >> 12: "c", unix.S_IFBLK >> 12: "b", unix.S_IFIFO >> 12: "p"}[s.Mode&unix.S_IFMT>>12]
	return fmt.Sprintf("mknod %s %s %d %d", s.Path, kind, s.Major, s.Minor)
}

// Calls implements Step.
func (s Node) Calls() []Call {
	rel, parent := relative(s.Path), s.In
	var calls []Call
	if parent == nil {
		parent = &Result{Name: "dir"}
		calls = openDirIn(s.Root, path.Dir(rel), 0, unix.RESOLVE_IN_ROOT, parent)
	}
	calls = append(calls, newCall("mknodat", unix.SYS_MKNODAT, From(parent), Str(path.Base(rel)),
		Arg{Value: uint64(s.Mode), show: nodeMode}, Arg{Value: unix.Mkdev(s.Major, s.Minor), show: nodeNumber}).may(0, unix.EEXIST))
	if s.OrBind {
		return s.orBind(calls, parent)
	}
	if s.UID != 0 || s.GID != 0 {
		calls = append(calls, newCall("fchownat", unix.SYS_FCHOWNAT, From(parent), Str(path.Base(rel)),
			Int(int(s.UID)), Int(int(s.GID)), Flags(unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW")))
	}
	return calls
}

func nodeMode(a Arg) string {
	kind := [...]string{unix.S_IFCHR >> 12: "S_IFCHR", unix.S_IFBLK >> 12: "S_IFBLK", unix.S_IFIFO >> 12: "S_IFIFO"}[a.Value&unix.S_IFMT>>12]
	return fmt.Sprintf("%s|0%o", kind, a.Value&0o7777)
}

func nodeNumber(a Arg) string {
	return fmt.Sprintf("makedev(%d, %d)", unix.Major(a.Value), unix.Minor(a.Value))
}

// orBind goes on after the mknodat at the end of calls.
func (s Node) orBind(calls []Call, parent *Result) []Call {
	name, at, tree := path.Base(relative(s.Path)), &Result{Name: "at"}, &Result{Name: "tree"}
	bind := []Call{
		newCall("mknodat", unix.SYS_MKNODAT, From(parent), Str(name), Flags(unix.S_IFREG|0o644, "S_IFREG|0644"), Int(0)),
		openIn(s.Root, s.Path, unix.O_NOFOLLOW).to(at),
		openTree(Cwd, s.Path, false).to(tree),
		moveMount(tree, at),
	}
	last := &calls[len(calls)-1]
	last.May, last.Then = []unix.Errno{unix.EEXIST, unix.EPERM}, 1+len(bind)
	there := newCall("faccessat", unix.SYS_FACCESSAT, From(parent), Str(name), Flags(unix.F_OK, "F_OK")).may(0, unix.ENOENT)
	there.Then = len(bind)
	return append(append(calls, there), bind...)
}

// Symlink makes a symbolic link; one that is there stays.
type Symlink struct {
	Root     *Result
	Path, To string
	In       *Result // its directory, if OpenDir has opened it
}

func (s Symlink) String() string { return fmt.Sprintf("ln -s %s %s", s.To, s.Path) }

// Calls implements Step.
func (s Symlink) Calls() []Call {
	rel, dir := relative(s.Path), s.In
	var calls []Call
	if dir == nil {
		dir = &Result{Name: "dir"}
		calls = []Call{openIn(s.Root, path.Dir(rel), unix.O_DIRECTORY).to(dir)}
	}
	return append(calls, newCall("symlinkat", unix.SYS_SYMLINKAT, Str(s.To), From(dir), Str(path.Base(rel))).may(0, unix.EEXIST))
}

// OpenDir opens a directory of the container, creating what of it is missing, for
// the steps that put something there.
type OpenDir struct {
	Root *Result
	Path string
	Dir  *Result
}

func (s OpenDir) String() string { return "open " + s.Path }

// Calls implements Step.
func (s OpenDir) Calls() []Call { return openDirIn(s.Root, s.Path, 0, unix.RESOLVE_IN_ROOT, s.Dir) }

// Terminal opens a pseudo terminal of the container's own devpts, sends its
// master to the parent over Socket, makes it the controlling terminal and the
// standard streams, and shows it as /dev/console (pts(4)).
type Terminal struct {
	Root          *Result // nil: of the file system the process is in (exec)
	Socket        Arg
	Rows, Columns uint16
	UID           uint32 // owner of the terminal
	Console       bool   // bind it to /dev/console
	PlainLF       bool   // a line feed goes out as it is: the caller's own terminal makes CR LF of it
}

func (s Terminal) String() string { return "a terminal of the container's own" }

// Calls implements Step.
func (s Terminal) Calls() []Call {
	master, slave := &Result{Name: "master"}, &Result{Name: "slave"}
	rw, text := uint64(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC), "O_RDWR|O_NOCTTY|O_CLOEXEC"
	open := newCall("openat2", unix.SYS_OPENAT2, Cwd, Str("/dev/pts/ptmx"), openHow(rw, unix.RESOLVE_NO_MAGICLINKS), Int(24)).to(master)
	if s.Root != nil {
		how := openHow(rw, unix.RESOLVE_IN_ROOT)
		open = newCall("openat2", unix.SYS_OPENAT2, From(s.Root), Str("dev/pts/ptmx"), how, Int(24)).to(master)
	}
	size := make([]byte, 8)
	binary.NativeEndian.PutUint16(size, s.Rows)
	binary.NativeEndian.PutUint16(size[2:], s.Columns)
	calls := []Call{
		open,
		newCall("ioctl", unix.SYS_IOCTL, From(master), Flags(unix.TIOCSPTLCK, "TIOCSPTLCK"), Blob("[0]", make([]byte, 4))),
		newCall("ioctl", unix.SYS_IOCTL, From(master), Flags(unix.TIOCGPTPEER, "TIOCGPTPEER"), Flags(rw, text)).to(slave),
	}
	if s.PlainLF {
		calls = append(calls, newCall("ioctl", unix.SYS_IOCTL, From(slave), Flags(unix.TCSETS, "TCSETS"), Blob("{a new terminal's, -onlcr}", newTerminal())))
	}
	calls = append(calls,
		newCall("ioctl", unix.SYS_IOCTL, From(master), Flags(unix.TIOCSWINSZ, "TIOCSWINSZ"),
			Blob(fmt.Sprintf("{%d, %d}", s.Rows, s.Columns), size)),
		newCall("fchown", unix.SYS_FCHOWN, From(slave), Int(int(s.UID)), Int(-1)),
		s.send(master),
		newCall("ioctl", unix.SYS_IOCTL, From(slave), Flags(unix.TIOCSCTTY, "TIOCSCTTY"), Int(0)))
	for fd := range 3 {
		calls = append(calls, newCall("dup3", unix.SYS_DUP3, From(slave), Int(fd), Int(0)))
	}
	if s.Console {
		at, tree := &Result{Name: "console"}, &Result{Name: "tree"}
		calls = append(calls, makeFile(s.Root, "/dev/console")...)
		calls = append(calls, openIn(s.Root, "/dev/console", 0).to(at),
			openTree(From(slave), "", false).to(tree), moveMount(tree, at))
	}
	return append(calls,
		newCall("close", unix.SYS_CLOSE, From(master)), newCall("close", unix.SYS_CLOSE, From(slave)))
}

// newTerminal is struct ktermios of a new pseudo terminal (tty_std_termios in
// drivers/tty/tty_io.c) without ONLCR.
func newTerminal() []byte {
	b := make([]byte, 0, 64)
	for _, v := range []uint32{
		unix.ICRNL | unix.IXON, unix.OPOST, unix.B38400 | unix.CS8 | unix.CREAD,
		unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN,
	} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	b = append(b, 0)                                                            // line discipline
	b = append(b, 3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0) // INIT_C_CC
	return append(b, make([]byte, 64-len(b))...)
}

// send is sendmsg(2) with one descriptor as SCM_RIGHTS (unix(7)).
func (s Terminal) send(fd *Result) Call {
	put := binary.NativeEndian.PutUint64
	control := make([]byte, unix.CmsgSpace(4))
	put(control, uint64(unix.CmsgLen(4)))
	binary.NativeEndian.PutUint32(control[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(control[12:], unix.SCM_RIGHTS)
	iov := make([]byte, 16)
	put(iov[8:], 1)
	msg := make([]byte, 56) // struct msghdr
	put(msg[24:], 1)
	put(msg[40:], uint64(len(control)))
	return newCall("sendmsg", unix.SYS_SENDMSG, s.Socket, Arg{
		str: "{SCM_RIGHTS, [$" + fd.Name + "]}",
		To: &Memory{Bytes: msg, Fixups: map[int]Arg{
			16: {To: &Memory{Bytes: iov, Fixups: map[int]Arg{0: Str("t")}}},
			32: {To: &Memory{Bytes: control, Hole: &Hole{16, fd}}},
		}}}, Int(0))
}
