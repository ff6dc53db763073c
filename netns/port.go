package netns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port is one published port: a port of the host that leads to one of the container.
type Port struct {
	HostIP        netip.Addr // zero or 0.0.0.0: every address of the host
	HostPort      uint16     // 0: Decide chooses a free one
	HostPortEnd   uint16     // not 0: Decide takes the first free one of HostPort..HostPortEnd
	ContainerPort uint16
	Proto         string // "tcp" or "udp"
}

// String is docker's form: 0.0.0.0:8080->80/tcp.
func (p Port) String() string {
	return fmt.Sprintf("%s->%d/%s", p.host(), p.ContainerPort, p.Proto)
}

// host is the host's side alone: 127.0.0.1:8080.
func (p Port) host() string {
	ip := p.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	s := netip.AddrPortFrom(ip, p.HostPort).String()
	if p.HostPortEnd != 0 {
		s += "-" + strconv.Itoa(int(p.HostPortEnd))
	}
	return s
}

// all reports whether the port answers on every address of the host.
func (p Port) all() bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }

// ParsePort reads docker's -p syntax, [[IP:][HOST]:]CONTAINER[/PROTO], where
// HOST and CONTAINER are a port or a range FROM-TO. Ranges of the same length
// pair up; a host range with one container port means the first free of them.
func ParsePort(s string) ([]Port, error) {
	bad := func(format string, a ...any) ([]Port, error) {
		return nil, fmt.Errorf("publish %q: %s", s, fmt.Sprintf(format, a...))
	}
	rest, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	if proto != "tcp" && proto != "udp" {
		return bad("protocol %q is not tcp or udp", proto)
	}
	ipText, host, cont, err := splitPort(rest)
	if err != nil {
		return bad("%v", err)
	}
	var ip netip.Addr
	if ipText != "" {
		if ip, err = netip.ParseAddr(ipText); err != nil {
			return bad("host address %q is not an IP address", ipText)
		}
	}
	cFrom, cTo, err := portRange(cont)
	if err != nil {
		return bad("container port %v", err)
	}
	var hFrom, hTo uint16
	if host != "" && host != "0" {
		if hFrom, hTo, err = portRange(host); err != nil {
			return bad("host port %v", err)
		}
		if cFrom == cTo && hFrom != hTo {
			return []Port{{HostIP: ip, HostPort: hFrom, HostPortEnd: hTo, ContainerPort: cFrom, Proto: proto}}, nil
		}
		if hTo-hFrom != cTo-cFrom {
			return bad("the ranges %s and %s differ in length", host, cont)
		}
	}
	var ports []Port
	for i := 0; i <= int(cTo-cFrom); i++ {
		p := Port{HostIP: ip, ContainerPort: cFrom + uint16(i), Proto: proto}
		if hFrom != 0 {
			p.HostPort = hFrom + uint16(i)
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// splitPort cuts IP:HOST:CONTAINER from the right, since an IPv6 address in
// brackets has colons of its own.
func splitPort(s string) (ip, host, cont string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.Index(s, "]:")
		if end < 0 {
			return "", "", "", fmt.Errorf("an address in brackets needs ]: after it")
		}
		ip, s = s[1:end], s[end+2:]
		if strings.Count(s, ":") != 1 {
			return "", "", "", fmt.Errorf("expected HOST:CONTAINER after the address")
		}
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return ip, "", s, nil
	}
	host, cont = s[:i], s[i+1:]
	if i = strings.LastIndexByte(host, ':'); i >= 0 {
		ip, host = host[:i], host[i+1:]
		if ip == "" || strings.Contains(ip, ":") {
			return "", "", "", fmt.Errorf("expected [[IP:]HOST:]CONTAINER, an IPv6 address in brackets")
		}
	}
	return ip, host, cont, nil
}

func portRange(s string) (from, to uint16, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if from, err = portNumber(a); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return from, from, nil
	}
	if to, err = portNumber(b); err != nil {
		return 0, 0, err
	}
	if to < from {
		return 0, 0, fmt.Errorf("range %q runs backwards", s)
	}
	return from, to, nil
}

func portNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '+' {
		return 0, fmt.Errorf("%q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}
