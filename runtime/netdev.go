package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
)

// checkDevices looks at linux.netDevices before anything is made. The texts are
// those of runc.
func checkDevices(l *specs.Linux, rootless bool) error {
	if len(l.NetDevices) == 0 {
		return nil
	}
	if _, ok := engine.Namespace(l, specs.NetworkNamespace); !ok {
		return errors.New("unable to move network devices without a NET namespace")
	}
	if rootless {
		return errors.New("network devices are not supported for rootless containers")
	}
	for name, d := range l.NetDevices {
		for _, n := range []string{name, d.Name} {
			// dev_valid_name of the kernel; with "%d" in it the kernel would choose a name.
			if n == name && n == "" || n == "." || n == ".." || len(n) >= unix.IFNAMSIZ || strings.ContainsAny(n, "/:% \t\n\v\f\r\x00") {
				return fmt.Errorf("invalid network device name %q", n)
			}
		}
	}
	return nil
}

// moveDevices moves network devices of the host into the container
// (linux.netDevices). A namespace that is joined is not asked of the process,
// which may not be there yet.
func (m *maker) moveDevices(pid int) error {
	if len(m.spec.Linux.NetDevices) == 0 {
		return nil
	}
	n, _ := engine.Namespace(m.spec.Linux, specs.NetworkNamespace)
	path := n.Path
	if path == "" {
		path = fmt.Sprintf("/proc/%d/ns/net", pid)
	}
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("move network devices into the container: %w", err)
	}
	defer ns.Close()
	there, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach the container's network: %w", err)
	}
	defer there.Close()
	for name, d := range m.spec.Linux.NetDevices {
		to := d.Name
		if to == "" {
			to = name
		}
		if err := moveDevice(ns, there, name, to); err != nil {
			return fmt.Errorf("move network device %s into the container: %w", name, err)
		}
	}
	return nil
}

// moveDevice moves one device. The kernel takes its addresses away with it, and
// those of IPv6 as soon as it is down: they are listed first, those that are valid elsewhere
// are given back, and it is up again (rtnetlink(7)).
func moveDevice(ns *os.File, there *netlink.Handle, name, to string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	// Asked before: the kernel moves first, and leaves there what it cannot rename.
	if _, err := there.LinkByName(to); err == nil {
		return fmt.Errorf("the container's network has a device %s: %w", to, unix.EEXIST)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("set it down: %w", err)
	}
	if err := rehome(link.Attrs().Index, ns, to); err != nil {
		if link.Attrs().Flags&unix.IFF_UP != 0 {
			err = errors.Join(err, netlink.LinkSetUp(link)) // it stays where it was, as it was
		}
		return err
	}
	moved, err := there.LinkByName(to)
	if err != nil {
		return err
	}
	for i := range addrs {
		a := addrs[i]
		if a.Scope != unix.RT_SCOPE_UNIVERSE || a.Flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		a.Label, a.LinkIndex = "", 0 // those of the old name and place
		if err := there.AddrAdd(moved, &a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give it the address %s: %w", a.IPNet, err)
		}
	}
	return there.LinkSetUp(moved)
}

// rehome moves and renames at once: the new name need be free there alone, not on the
// host too.
func rehome(index int, ns *os.File, name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd()))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// loopback brings up lo in the network namespace of a process.
func loopback(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	there, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach the container's network: %w", err)
	}
	defer there.Close()
	lo, err := there.LinkByName("lo")
	if err == nil {
		err = there.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring up lo of the container: %w", err)
	}
	return nil
}
