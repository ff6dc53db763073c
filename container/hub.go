package container

import (
	"encoding/binary"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// attachSocket is the name of the socket in the container's folder.
const attachSocket = "attach"

// A hub connects the clients of attach with the streams of the container.
type hub struct {
	mu       sync.Mutex
	clients  map[*client]bool
	in       *os.File // the container's stdin or terminal, nil without
	tty      bool
	listener int
	path     string
	size     *specs.Box
	early    []byte // typed before the container ran
	eof      bool
	hungUp   bool // the first client cannot write any more
}

func newHub() *hub { return &hub{clients: map[*client]bool{}, listener: -1} }

// add takes a connected client in.
func (h *hub) add(f *os.File, first bool) *client {
	c := newClient(f, first)
	h.mu.Lock()
	h.clients[c] = true
	h.mu.Unlock()
	go h.read(c)
	go c.write()
	return c
}

func (h *hub) drop(c *client) {
	h.mu.Lock()
	delete(h.clients, c)
	h.mu.Unlock()
	c.leave()
}

// ended: from now on no client holds up a Write.
func (h *hub) ended(over bool) {
	for _, c := range h.all() {
		c.ended(over)
	}
}

func (h *hub) all() []*client {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.clients))
}

// serve connects a started container and, the first time, opens the socket.
func (h *hub) serve(c *Container, r *running) {
	h.mu.Lock()
	h.in, h.tty = r.in, c.Options.TTY
	early, eof := h.early, h.eof
	h.early = nil
	h.mu.Unlock()
	h.ended(false)
	if len(early) > 0 && r.in != nil {
		r.in.Write(early)
	}
	if eof && r.in != nil && !c.Options.TTY {
		h.closeInput()
	}
	if h.listener < 0 {
		h.listen(c)
	}
}

// listen binds the socket through /proc/self/fd: a path in sun_path has 108
// bytes at most (unix(7)), and the state root may be deep.
func (h *hub) listen(c *Container) error {
	dir, err := unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	unix.Unlinkat(dir, attachSocket, 0) // of a monitor that was killed
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// before bind, which takes the mode of the socket's inode (net/unix/af_unix.c, unix_bind_bsd)
	err = unix.Fchmod(fd, 0o600)
	if err == nil {
		err = unix.Bind(fd, socketAddr(dir))
	}
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	h.listener, h.path = fd, c.dir+"/"+attachSocket
	go func() {
		for {
			n, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err == unix.EINTR || err == unix.ECONNABORTED {
				continue
			}
			if err != nil { // shut down
				unix.Close(fd)
				return
			}
			h.add(os.NewFile(uintptr(n), "attach"), false)
		}
	}()
	return nil
}

func socketAddr(dir int) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + attachSocket}
}

// read takes a client's frames until it leaves.
func (h *hub) read(c *client) {
	defer h.drop(c)
	var buf []byte
	for {
		t, p, err := readFrame(c.f, &buf)
		if err != nil {
			return
		}
		switch t {
		case frameStdin:
			h.input(p, c.first)
		case frameResize:
			if len(p) == 4 {
				h.resize(binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]))
			}
		case frameHangup:
			if c.first {
				h.hangUp()
			}
		}
	}
}

func (h *hub) input(p []byte, first bool) {
	h.mu.Lock()
	in, tty := h.in, h.tty
	if in == nil {
		h.early = append(h.early, p...)
		h.eof = h.eof || len(p) == 0 && first
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	if len(p) > 0 {
		in.Write(p)
	} else if first && !tty {
		h.closeInput()
	}
}

func (h *hub) closeInput() {
	h.mu.Lock()
	in := h.in
	h.in, h.eof = nil, true
	h.mu.Unlock()
	if in != nil {
		in.Close()
	}
}

func (h *hub) resize(rows, cols uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.size = &specs.Box{Height: uint(rows), Width: uint(cols)}
	if h.in != nil && h.tty {
		setWinsize(h.in, rows, cols)
	}
}

// hangUp: nobody sees the terminal that `run -t` gave the container. Its next
// output gets the error that a terminal gives which is no more.
func (h *hub) hangUp() {
	h.mu.Lock()
	h.hungUp = true
	h.mu.Unlock()
}

// stream is the writer that sends one stream to all clients. It fails only
// after hangUp: else the log goes on with no client there.
func (h *hub) stream(t frame) *hubStream { return &hubStream{h, t} }

type hubStream struct {
	h *hub
	t frame
}

func (s *hubStream) Write(p []byte) (int, error) {
	for _, c := range s.h.all() {
		c.output(s.t, p)
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.hungUp {
		return 0, unix.EIO
	}
	return len(p), nil
}

// pause: the container has ended; input is kept for the next start.
func (h *hub) pause() {
	h.mu.Lock()
	h.in = nil
	h.mu.Unlock()
}

// end closes the socket and tells all clients the exit code.
func (h *hub) end(code int, last *State) error {
	var err error
	if h.listener >= 0 {
		os.Remove(h.path)
		err = unix.Shutdown(h.listener, unix.SHUT_RDWR)
	}
	bye := append(binary.BigEndian.AppendUint32(nil, uint32(code)), 0)
	if last != nil && last.OOMKilled {
		bye[4] |= exitOOM
	}
	if last != nil && last.StopRequested {
		bye[4] |= exitAsked
	}
	all := h.all()
	for _, c := range all {
		c.bye(frameExit, bye)
	}
	for _, c := range all {
		c.wait()
	}
	return err
}
