package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrPortInUse: a host port that was asked for belongs to another container or
// to a program on the host.
var ErrPortInUse = errors.New("port is already in use")

// held are the sockets that keep this process's host ports from being bound by
// others, by root and container. Process state, because sockets are: it ends
// with the process, and Release by the same process must find it.
var held struct {
	sync.Mutex
	sockets map[string][]int
}

func hold(root, id string, fds []int) {
	held.Lock()
	defer held.Unlock()
	if held.sockets == nil {
		held.sockets = make(map[string][]int)
	}
	held.sockets[root+"\x00"+id] = fds
}

func letGo(root, id string) {
	held.Lock()
	defer held.Unlock()
	closeAll(held.sockets[root+"\x00"+id])
	delete(held.sockets, root+"\x00"+id)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// reservePorts chooses and checks the host ports: against the maps, which know
// containers whose berth is gone, and against every socket of the host, by
// binding. own is the container's address: its own earlier entries are no
// conflict.
func reservePorts(root string, req Request, own netip.Addr) ([]Port, error) {
	ports, fds, err := bindPorts(req.Ports, own)
	if err == nil && len(fds) > 0 {
		hold(root, req.ID, fds)
	}
	return ports, err
}

// likelyPorts does the same without keeping them. Those the container has
// already are not in its way.
func likelyPorts(req Request, own netip.Addr, old *record) ([]Port, error) {
	if old != nil && len(old.ports) == len(req.Ports) {
		return old.ports, nil
	}
	ports, fds, err := bindPorts(req.Ports, own)
	closeAll(fds)
	return ports, err
}

func bindPorts(wanted []Port, own netip.Addr) (ports []Port, fds []int, err error) {
	if len(wanted) == 0 {
		return nil, nil, nil
	}
	others, err := publishedPorts()
	if err != nil {
		return nil, nil, err
	}
	for _, want := range wanted {
		p, fd, err := reservePort(want, others, own)
		if err != nil {
			closeAll(fds)
			return nil, nil, err
		}
		ports, fds = append(ports, p), append(fds, fd)
	}
	return ports, fds, nil
}

func reservePort(p Port, others []element, own netip.Addr) (Port, int, error) {
	if !p.HostIP.IsValid() {
		p.HostIP = netip.IPv4Unspecified()
	}
	p.HostIP = p.HostIP.Unmap()
	if !p.HostIP.Is4() {
		return p, -1, fmt.Errorf("publish %s: only IPv4 addresses of the host can be published", p)
	}
	last := max(p.HostPortEnd, p.HostPort)
	for tries := 0; ; tries++ {
		fd, port, err := bind(p)
		if err == nil {
			if e := conflict(port, others, own); e != nil {
				unix.Close(fd)
				err = fmt.Errorf("publish %s: %w: another container has %s", p, ErrPortInUse, e.port.host())
			}
		}
		if err == nil {
			port.HostPortEnd = 0
			return port, fd, nil
		}
		switch {
		case !errors.Is(err, ErrPortInUse):
			return p, -1, err
		case p.HostPort == 0 && tries < 100: // the kernel chooses another
		case p.HostPort != 0 && p.HostPort < last:
			p.HostPort++
		default:
			return p, -1, err
		}
	}
}

// conflict finds an entry for the same port on the same address or on all.
func conflict(p Port, others []element, own netip.Addr) *element {
	for i, e := range others {
		same := e.port.Proto == p.Proto && e.port.HostPort == p.HostPort &&
			(e.port.all() || p.all() || e.port.HostIP == p.HostIP)
		if same && e.to != own {
			return &others[i]
		}
	}
	return nil
}

// bind takes the port on the host. A TCP socket must also listen: only then
// does the kernel compare it with sockets that allow address reuse, which
// nearly all servers do. SO_REUSEADDR steps over connections of a former
// server that are in TIME_WAIT. Packets do not get here, they are translated
// before: the socket is a sign on the door.
func bind(p Port) (int, Port, error) {
	kind := unix.SOCK_STREAM
	if p.Proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, p, fmt.Errorf("publish %s: socket: %w", p, err)
	}
	addr := &unix.SockaddrInet4{Addr: p.HostIP.As4(), Port: int(p.HostPort)}
	if p.Proto != "udp" {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, addr)
	}
	if err == nil && p.Proto != "udp" {
		err = unix.Listen(fd, 0)
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		if err == unix.EADDRINUSE {
			err = fmt.Errorf("%w by a program on this host", ErrPortInUse)
		}
		return -1, p, fmt.Errorf("publish %s: %w", p, err)
	}
	if in, ok := name.(*unix.SockaddrInet4); ok {
		p.HostPort = uint16(in.Port)
	}
	return fd, p, nil
}
