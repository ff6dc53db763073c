package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// conn is a netlink socket that sends many requests in one system call and
// reads all answers after it. Netlink requests are carried out inside
// sendmsg(2), in order, so a batch saves the round trips but not the order.
type conn struct {
	fd  int
	buf []byte
}

// dial opens a socket in the network namespace of the calling thread.
func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// Both are comforts (4.12): error texts, and errors without our own request in them.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind a netlink socket: %w", err)
	}
	return &conn{fd: fd, buf: make([]byte, 32<<10)}, nil // the kernel fills a dump's buffer up to 32 KiB
}

// dialIn opens a route socket in the network namespace ns refers to. A socket
// stays in the namespace it was made in, so the thread is there for one call only.
func dialIn(ns int) (*conn, error) {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter the container's network namespace: %w", err)
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		// The thread stays locked: Go ends it with the goroutine rather than
		// running other code in the wrong namespace.
		if c != nil {
			c.close()
		}
		return nil, errors.Join(err, fmt.Errorf("return to own network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return c, err
}

func (c *conn) close() { unix.Close(c.fd) }

// closeLater is close for sockets of netfilter. Closing one waits until all
// that anybody in this namespace deleted from nf_tables is freed, an RCU grace
// period of 10 ms (nf_tables_rcv_nl_event in net/netfilter/nf_tables_api.c).
// Nothing here depends on it, so it happens beside whatever comes next.
func (c *conn) closeLater() { go c.close() }

// request is one netlink message and what the kernel said to it.
type request struct {
	*nl.NetlinkRequest
	err     error
	answers [][]byte
}

func newRequest(kind, flags int, data ...nl.NetlinkRequestData) *request {
	r := &request{NetlinkRequest: nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)}
	for _, d := range data {
		r.AddData(d)
	}
	return r
}

// do sends all requests and returns when all are answered. The error is that
// of the socket; each request carries its own.
func (c *conn) do(reqs ...*request) error {
	var msg []byte
	bySeq := make(map[uint32]*request, len(reqs))
	for _, r := range reqs {
		msg = append(msg, r.Serialize()...)
		bySeq[r.Seq] = r
	}
	if err := unix.Sendto(c.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to netlink: %w", err)
	}
	for len(bySeq) > 0 {
		n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive from netlink: %w", err)
		}
		for b := c.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return errors.New("receive from netlink: malformed message")
			}
			seq := binary.NativeEndian.Uint32(b[8:])
			if r := bySeq[seq]; r != nil && r.answer(b[:size]) {
				delete(bySeq, seq)
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
	return nil
}

// answer takes one message and reports whether it was the last to the request.
func (r *request) answer(msg []byte) bool {
	flags := binary.NativeEndian.Uint16(msg[6:])
	data := msg[unix.SizeofNlMsghdr:]
	switch binary.NativeEndian.Uint16(msg[4:]) {
	case unix.NLMSG_ERROR:
		r.err = ackError(flags, data)
		return true
	case unix.NLMSG_DONE:
		return true
	default:
		r.answers = append(r.answers, append([]byte(nil), data...))
		return false
	}
}

// ackError decodes an acknowledgement: an errno, and with NLM_F_ACK_TLVS the
// kernel's own words.
func ackError(flags uint16, data []byte) error {
	if len(data) < 4 {
		return errors.New("short netlink acknowledgement")
	}
	code := int32(binary.NativeEndian.Uint32(data))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	const header = 4 + unix.SizeofNlMsghdr
	if flags&unix.NLM_F_ACK_TLVS == 0 || len(data) < header {
		return errno
	}
	attrs, err := nl.ParseRouteAttr(data[header:])
	if err != nil {
		return errno
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w (%s)", errno, unix.ByteSliceToString(a.Value))
		}
	}
	return errno
}

// link is what berth wants to know of a network device.
type link struct {
	index  int
	up     bool
	ready  bool // operational: it carries packets now
	mtu    int
	master int
	name   string
	kind   string // "bridge", "veth", "" for hardware
	other  int    // number of a veth's other end, in its namespace
	peer   int32  // id of the namespace of a veth's other end
}

// operUp is IF_OPER_UP, linux/if.h.
const operUp = 6

// Values of link.peer.
const (
	namespaceDying = -1 // NETNSA_NSID_NOT_ASSIGNED: no process and no file refers to it any more
	sameNamespace  = -2 // the attribute is missing
)

// getLink finds a device by its name or by an alternative name (5.5); nil
// without an error when there is none.
func (c *conn) getLink(name string) (*link, error) {
	r := linkByName(name)
	if err := c.do(r); err != nil {
		return nil, err
	}
	return r.link(name)
}

func linkByName(name string) *request {
	attr := uint16(unix.IFLA_IFNAME)
	if len(name) >= unix.IFNAMSIZ {
		attr = unix.IFLA_ALT_IFNAME
	}
	return newRequest(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(int(attr), nl.ZeroTerminated(name)))
}

func (r *request) link(name string) (*link, error) {
	switch {
	case errors.Is(r.err, unix.ENODEV):
		return nil, nil
	case r.err != nil:
		return nil, fmt.Errorf("look up device %s: %w", name, r.err)
	case len(r.answers) == 0:
		return nil, fmt.Errorf("look up device %s: no answer", name)
	}
	return parseLink(r.answers[0])
}

func parseLink(b []byte) (*link, error) {
	if len(b) < unix.SizeofIfInfomsg {
		return nil, errors.New("short link message")
	}
	info := nl.DeserializeIfInfomsg(b)
	l := &link{index: int(info.Index), up: info.Flags&unix.IFF_UP != 0, peer: sameNamespace}
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return nil, fmt.Errorf("link message: %w", err)
	}
	for _, a := range attrs {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(a.Value)
		case unix.IFLA_MTU:
			l.mtu = int(binary.NativeEndian.Uint32(a.Value))
		case unix.IFLA_MASTER:
			l.master = int(binary.NativeEndian.Uint32(a.Value))
		case unix.IFLA_OPERSTATE:
			l.ready = len(a.Value) == 1 && a.Value[0] == operUp
		case unix.IFLA_LINK:
			l.other = int(binary.NativeEndian.Uint32(a.Value))
		case unix.IFLA_LINK_NETNSID:
			l.peer = int32(binary.NativeEndian.Uint32(a.Value))
		case unix.IFLA_LINKINFO:
			l.kind = linkKind(a.Value)
		}
	}
	return l, nil
}

func linkKind(b []byte) string {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return ""
	}
	for _, a := range attrs {
		if a.Attr.Type == nl.IFLA_INFO_KIND {
			return unix.ByteSliceToString(a.Value)
		}
	}
	return ""
}
