package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// step is one thing done to the kernel: how a person would type it, and the
// one way it is carried out. Exactly one of rtnl, file and do is set.
type step struct {
	text string
	rtnl func(*devices) *request // a message to rtnetlink(7)
	file string                  // written with value; may be missing if optional
	do   func() error            // an nft transaction of its own

	value    string
	optional bool
	allow    unix.Errno // an answer as good as success
}

// devices are the kernel's numbers of the devices a step names.
type devices struct {
	bridge int
	eth    int // the container's end, in its namespace
	ns     int // the container's namespace, a file descriptor
}

func (s *step) error(err error) error {
	if err == nil || (s.allow != 0 && errors.Is(err, s.allow)) {
		return nil
	}
	first, _, _ := strings.Cut(s.text, "\n")
	return fmt.Errorf("%s: %w", first, err)
}

// setUp switches a device on.
func setUp(name string) step {
	return step{text: "ip link set " + name + " up", rtnl: func(*devices) *request {
		return newRequest(unix.RTM_NEWLINK, 0, flagsUp(), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}}
}

func flagsUp() *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Flags, m.Change = unix.IFF_UP, unix.IFF_UP
	return m
}

// addBridge gives the bridge its own hardware address: without one it would
// take the lowest of its ports', and change it with every container.
func addBridge(b Bridge) step {
	mac := macOf(b.Gateway)
	return step{
		text:  fmt.Sprintf("ip link add %s address %s mtu %d type bridge", b.Name, mac, b.MTU),
		allow: unix.EEXIST,
		rtnl: func(*devices) *request {
			info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
			info.AddRtAttr(nl.IFLA_INFO_KIND, []byte("bridge"))
			return newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC),
				nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(b.Name)), mtuAttr(b.MTU), macAttr(mac), info)
		},
	}
}

// addVeth makes both ends in one message: the host's end is a port of the
// bridge and up, the other appears in the container's namespace under its
// final name. It cannot be up yet: the kernel configures it before the two
// ends know each other.
func (p *Plan) addVeth() step {
	return step{
		text: fmt.Sprintf("ip link add %s mtu %d master %s type veth peer name %s address %s mtu %d netns $PID\nip link set %s up",
			p.HostLink, p.Bridge.MTU, p.Bridge.Name, p.Device, p.MAC, p.Bridge.MTU, p.HostLink),
		rtnl: func(d *devices) *request {
			info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
			info.AddRtAttr(nl.IFLA_INFO_KIND, []byte("veth"))
			peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
			nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
			peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.Device))
			peer.AddChild(mtuAttr(p.Bridge.MTU))
			peer.AddChild(macAttr(p.MAC))
			peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(d.ns)))
			return newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, flagsUp(),
				nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.HostLink)), mtuAttr(p.Bridge.MTU),
				nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(d.bridge))), info)
		},
	}
}

// addAltName marks the address as taken for every root that uses the bridge,
// for as long as the device lives. Kernels before 5.5 do without.
func (p *Plan) addAltName() step {
	alt := altName(p.Addr.Addr())
	return step{
		text:  fmt.Sprintf("ip link property add dev %s altname %s", p.HostLink, alt),
		allow: unix.EOPNOTSUPP,
		rtnl: func(*devices) *request {
			list := nl.NewRtAttr(unix.IFLA_PROP_LIST|unix.NLA_F_NESTED, nil)
			list.AddRtAttr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(alt))
			return newRequest(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_APPEND, nl.NewIfInfomsg(unix.AF_UNSPEC),
				nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.HostLink)), list)
		},
	}
}

// addHairpin lets the bridge send a packet back to the port it came from: a
// container that calls its own published port. Only with published ports, as
// the container gets its own broadcasts back, too.
func (p *Plan) addHairpin() step {
	return step{
		text: "ip link set " + p.HostLink + " type bridge_slave hairpin on",
		rtnl: func(*devices) *request {
			info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
			info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, []byte("bridge"))
			info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil).AddRtAttr(nl.IFLA_BRPORT_MODE, []byte{1})
			return newRequest(unix.RTM_NEWLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC),
				nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.HostLink)), info)
		},
	}
}

func altName(a netip.Addr) string { return "berth-ip-" + a.String() }

func mtuAttr(mtu int) *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))) }

func macAttr(mac net.HardwareAddr) *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_ADDRESS, mac) }

// addAddress puts an address on a device; index picks its number once known.
func addAddress(a netip.Prefix, name string, index func(*devices) int) step {
	return step{
		text:  fmt.Sprintf("ip address add %s broadcast + dev %s", a, name),
		allow: unix.EEXIST,
		rtnl: func(d *devices) *request {
			m := nl.NewIfAddrmsg(unix.AF_INET)
			m.Prefixlen, m.Index = uint8(a.Bits()), uint32(index(d))
			local := a.Addr().AsSlice()
			return newRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m,
				nl.NewRtAttr(unix.IFA_LOCAL, local), nl.NewRtAttr(unix.IFA_ADDRESS, local), nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(a)))
		},
	}
}

func broadcast(p netip.Prefix) []byte {
	b := p.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|^uint32(0)>>p.Bits())
	return b[:]
}

// addDefaultRoute needs no device: the kernel finds the gateway on the subnet
// of the address just given.
func addDefaultRoute(gateway netip.Addr) step {
	return step{text: "ip route add default via " + gateway.String(), rtnl: func(*devices) *request {
		m := nl.NewRtMsg()
		m.Family, m.Protocol = unix.AF_INET, unix.RTPROT_BOOT
		return newRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m, nl.NewRtAttr(unix.RTA_GATEWAY, gateway.AsSlice()))
	}}
}

func setKernel(value, file string, optional bool) step {
	return step{text: "echo " + value + " > " + file, file: file, value: value, optional: optional}
}

// write sets a file of /proc/sys/net, which shows the network namespace of the
// thread that opens it. A file that says so already may be read-only.
func (s *step) write() error {
	was, err := os.ReadFile(s.file)
	if s.optional && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && strings.TrimSpace(string(was)) == s.value {
		return nil
	}
	return os.WriteFile(s.file, []byte(s.value), 0)
}
