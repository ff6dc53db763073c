package runtime

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// moveDevice moves one device, under another name if one is given. The kernel
// takes its addresses away with it: those that are valid elsewhere are given
// back, and it is up again (rtnetlink(7)).
func moveDevice(pid int, name, rename string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
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
	if rename == "" {
		rename = name
	}
	if _, err := there.LinkByName(rename); err == nil {
		return fmt.Errorf("the container's network has a device %s: %w", rename, unix.EEXIST)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("set it down: %w", err)
	}
	if rename != name {
		if err := netlink.LinkSetName(link, rename); err != nil {
			return fmt.Errorf("rename it to %s: %w", rename, err)
		}
	}
	if err := netlink.LinkSetNsFd(link, int(ns.Fd())); err != nil {
		return errors.Join(err, netlink.LinkSetName(link, name))
	}
	moved, err := there.LinkByName(rename)
	if err != nil {
		return err
	}
	for i := range addrs {
		a := addrs[i]
		if a.Scope != unix.RT_SCOPE_UNIVERSE || a.Flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		a.Label = ""
		if err := there.AddrAdd(moved, &a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give it the address %s: %w", a.IPNet, err)
		}
	}
	return there.LinkSetUp(moved)
}
