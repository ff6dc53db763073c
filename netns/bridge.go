package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// DefaultBridge is the name of the bridge that containers are plugged into.
const DefaultBridge = "berth0"

// Bridge is the network containers share.
type Bridge struct {
	Name    string
	Subnet  netip.Prefix
	Gateway netip.Addr // the host's own address on the bridge: the subnet's first
	MTU     int        // bytes
}

// subnets are tried in this order for a new bridge. Docker takes 172.17-31 and
// 192.168, podman 10.88 and upwards, lxd and libvirt pieces of 10 and
// 192.168.122; a bridge that exists is seen as a route in any case.
func subnets() []netip.Prefix {
	var list []netip.Prefix
	for _, second := range []byte{86, 87, 85, 84, 83, 82} {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, 0, 0}), 16))
	}
	for _, second := range []byte{31, 30, 29} {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second, 0, 0}), 16))
	}
	for third := 208; third <= 240; third += 16 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(third), 0}), 20))
	}
	return list
}

// freeSubnet is the first candidate that overlaps no route of the host. A
// default route, also one split in halves as VPNs do, overlaps nothing.
func freeSubnet(candidates, routes []netip.Prefix) (netip.Prefix, error) {
next:
	for _, c := range candidates {
		for _, r := range routes {
			if r.Bits() > 3 && r.Overlaps(c) {
				continue next
			}
		}
		return c, nil
	}
	return netip.Prefix{}, fmt.Errorf("choose a subnet for the bridge: each of %d candidates overlaps a route of the host", len(candidates))
}

// newBridge decides a bridge that does not exist yet.
func (c *conn) newBridge(name string, subnet netip.Prefix) (Bridge, error) {
	routes, uplink, err := c.routes()
	if err != nil {
		return Bridge{}, err
	}
	if !subnet.IsValid() {
		if subnet, err = freeSubnet(subnets(), routes); err != nil {
			return Bridge{}, err
		}
	}
	if !subnet.Addr().Is4() || subnet.Bits() < 8 || subnet.Bits() > 29 {
		return Bridge{}, fmt.Errorf("bridge %s: subnet %s is not IPv4 between /8 and /29", name, subnet)
	}
	b := Bridge{Name: name, Subnet: subnet.Masked(), Gateway: offset(subnet.Masked().Addr(), 1), MTU: 1500}
	// Packets larger than the way out takes would depend on ICMP getting back.
	if mtu := c.mtu(uplink); mtu >= 576 {
		b.MTU = mtu
	}
	return b, nil
}

// mtu of a device, 0 when there is none.
func (c *conn) mtu(index int) int {
	if index == 0 {
		return 0
	}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	r := newRequest(unix.RTM_GETLINK, 0, msg)
	if err := c.do(r); err != nil {
		return 0
	}
	l, err := r.link("")
	if err != nil || l == nil {
		return 0
	}
	return l.mtu
}

// routes lists the host's IPv4 routes of all tables and the device of its
// default route.
func (c *conn) routes() (list []netip.Prefix, uplink int, err error) {
	r := newRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP, &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET}})
	if err := errors.Join(c.do(r), r.err); err != nil {
		return nil, 0, fmt.Errorf("list routes: %w", err)
	}
	for _, b := range r.answers {
		if len(b) < unix.SizeofRtMsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtMsg:])
		if err != nil {
			return nil, 0, fmt.Errorf("list routes: %w", err)
		}
		dst, oif := netip.IPv4Unspecified(), 0
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.RTA_DST:
				dst, _ = netip.AddrFromSlice(a.Value)
			case unix.RTA_OIF:
				oif = int(binary.NativeEndian.Uint32(a.Value))
			}
		}
		bits := int(nl.DeserializeRtMsg(b).Dst_len)
		if bits == 0 && uplink == 0 {
			uplink = oif
		}
		list = append(list, netip.PrefixFrom(dst, bits))
	}
	return list, uplink, nil
}

// findBridge reads a bridge from the kernel: nil link when there is none,
// invalid Subnet when it has no address yet.
func (c *conn) findBridge(name string) (Bridge, *link, error) {
	get := linkByName(name)
	addrs := newRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP, nl.NewIfAddrmsg(unix.AF_INET))
	if err := c.do(get, addrs); err != nil {
		return Bridge{}, nil, err
	}
	l, err := get.link(name)
	if l == nil || err != nil {
		return Bridge{}, nil, err
	}
	if l.kind != "bridge" {
		return Bridge{}, nil, fmt.Errorf("device %s is not a bridge", name)
	}
	if addrs.err != nil {
		return Bridge{}, nil, fmt.Errorf("list addresses: %w", addrs.err)
	}
	b := Bridge{Name: name, MTU: l.mtu}
	for _, a := range addrs.answers {
		if p, ok := addressOf(a, l.index); ok {
			b.Subnet, b.Gateway = p.Masked(), p.Addr()
			break
		}
	}
	return b, l, nil
}

// addressOf decodes one answer to RTM_GETADDR if it is about that device.
func addressOf(b []byte, index int) (netip.Prefix, bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return netip.Prefix{}, false
	}
	msg := nl.DeserializeIfAddrmsg(b)
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofIfAddrmsg:])
	if err != nil || int(msg.Index) != index {
		return netip.Prefix{}, false
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFA_LOCAL {
			addr, ok := netip.AddrFromSlice(a.Value)
			return netip.PrefixFrom(addr, int(msg.Prefixlen)), ok
		}
	}
	return netip.Prefix{}, false
}

// macOf derives a locally administered hardware address from an IPv4 address:
// a container that takes an address over is at once known to its neighbours,
// whose ARP entries stay true.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0xbe, b[0], b[1], b[2], b[3]}
}
