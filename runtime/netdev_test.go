package runtime

import (
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownNetwork gives this thread, and the containers that it makes, a network
// namespace of their own, with a pair of devices dev0 and peer0. The thread
// ends with the test.
func ownNetwork(b *box) *netlink.Veth {
	b.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "dev0", MTU: 1400}, PeerName: "peer0"}
	if err := netlink.LinkAdd(pair); err != nil {
		b.Skip("this kernel has no veth: ", err)
	}
	for _, a := range []string{"10.9.8.7/24", "fd00:9::7/64"} {
		ip, n, err := net.ParseCIDR(a)
		if err != nil {
			b.Fatal(err)
		}
		n.IP = ip
		if err := netlink.AddrAdd(pair, &netlink.Addr{IPNet: n, Flags: unix.IFA_F_NODAD}); err != nil {
			b.Fatal(err)
		}
	}
	local := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 7, 7, 7), Mask: net.CIDRMask(32, 32)}, Scope: unix.RT_SCOPE_LINK}
	if err := netlink.AddrAdd(pair, local); err != nil {
		b.Fatal(err)
	}
	if err := netlink.LinkSetUp(pair); err != nil {
		b.Fatal(err)
	}
	b.within("dev0 on the host", func() bool { _, err := netlink.LinkByName("dev0"); return err == nil })
	return pair
}

func (b *box) here(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

const addresses = "ip addr show dev eth7 | grep -oE 'mtu [0-9]+|inet6? (10|fd)[^ ]*|,UP'"

func TestNetworkDeviceMoves(t *testing.T) {
	b := newBox(t)
	ownNetwork(b)
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"dev0": {Name: "eth7"}}
	b.prints(addresses, ",UP\nmtu 1400\ninet 10.9.8.7/24\ninet6 fd00:9::7/64\n")
	if b.here("dev0") || b.here("eth7") {
		t.Error("the device is still on the host")
	}
}

// The new name is taken on the host, and free in the container.
func TestNetworkDeviceTakesANameOfTheHost(t *testing.T) {
	b := newBox(t)
	ownNetwork(b)
	other := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth7"}, PeerName: "peer7"}
	if err := netlink.LinkAdd(other); err != nil {
		t.Fatal(err)
	}
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"dev0": {Name: "eth7"}}
	b.prints(addresses, ",UP\nmtu 1400\ninet 10.9.8.7/24\ninet6 fd00:9::7/64\n")
	if !b.here("eth7") || b.here("dev0") {
		t.Error("the host's own eth7 is gone, or dev0 is not")
	}
}

// A namespace that is joined keeps the device when the container ends.
func TestNetworkDeviceInANamespaceOfOthers(t *testing.T) {
	b := newBox(t)
	ownNetwork(b)
	holder := b.started("holder")
	b.namespace("network", "/proc/"+strconv.Itoa(holder.state.Pid)+"/ns/net")
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"dev0": {Name: "eth7"}}
	b.prints(addresses, ",UP\nmtu 1400\ninet 10.9.8.7/24\ninet6 fd00:9::7/64\n")
	out, _, err := b.exec(holder, nil, "sh", "-c", addresses)
	if err != nil || !strings.Contains(out, "10.9.8.7") {
		t.Errorf("%q, %v", out, err)
	}
	holder.Kill(9, true)
	holder.Wait()
}

func TestNetworkDeviceThatCannotMove(t *testing.T) {
	b := newBox(t)
	pair := ownNetwork(b)
	for _, c := range []struct {
		devices map[string]specs.LinuxNetDevice
		want    string
	}{
		{map[string]specs.LinuxNetDevice{"absent": {}}, "move network device absent into the container: Link not found"},
		{map[string]specs.LinuxNetDevice{"dev0": {Name: "lo"}}, "move network device dev0 into the container: the container's network has a device lo: file exists"},
		{map[string]specs.LinuxNetDevice{"dev0": {Name: "a/b"}}, `invalid network device name "a/b"`},
		{map[string]specs.LinuxNetDevice{"dev0": {Name: "eth%d"}}, `invalid network device name "eth%d"`},
		{map[string]specs.LinuxNetDevice{"0123456789abcdef": {}}, `invalid network device name "0123456789abcdef"`},
		{map[string]specs.LinuxNetDevice{"": {}}, `invalid network device name ""`},
	} {
		b.spec.Linux.NetDevices = c.devices
		b.refused(c.want)
	}
	link, err := netlink.LinkByIndex(pair.Index)
	if err != nil || link.Attrs().Name != "dev0" || link.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("what could not move is not what it was: %v, %v", link, err)
	}
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"dev0": {}}
	b.store.Rootless = true
	b.refused("network devices are not supported for rootless containers")
	b.store.Rootless = false
	b.without("network")
	b.refused("unable to move network devices without a NET namespace")
	if !b.here("dev0") {
		t.Error("the device is gone")
	}
}
