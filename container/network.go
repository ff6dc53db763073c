package container

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/berth-run/berth/netns"
)

// network decides the container's network and returns what makes it once the
// process is there, nil if there is nothing to make.
func (c *Container) network() (func(pid int) error, Network, error) {
	o := &c.Options
	var n Network
	switch {
	case o.Network == "none": // the plan itself brings up lo
		return nil, n, nil
	case !ownNetwork(o.Network):
		return nil, n, nil
	}
	req, err := c.networkRequest()
	if err != nil {
		return nil, n, err
	}
	p, err := netns.Decide(c.store.Root, req)
	if err != nil {
		return nil, n, err
	}
	n = Network{IP: p.Addr.Addr(), Bits: p.Addr.Bits(), Gateway: p.Bridge.Gateway,
		MAC: p.MAC.String(), Bridge: p.Bridge.Name, Ports: p.Ports}
	p.Trace = c.steps.trace()
	return p.Apply, n, nil
}

func (c *Container) networkRequest() (netns.Request, error) {
	req := netns.Request{ID: c.ID, Ports: c.Ports}
	if c.Options.MAC != "" {
		mac, err := net.ParseMAC(c.Options.MAC)
		if err != nil {
			return req, fmt.Errorf("--mac-address: %w", err)
		}
		req.MAC = mac
	}
	return req, nil
}

// NetworkPlan is what a start now would do to the network, for explain; nil
// for a container that gets none of its own. Nothing is reserved.
func (c *Container) NetworkPlan() (*netns.Plan, error) {
	if c.Options.Network != "bridge" {
		return nil, nil
	}
	req, err := c.networkRequest()
	if err != nil {
		return nil, err
	}
	return netns.Explain(c.store.Root, req)
}

func (c *Container) releaseNetwork() error {
	if c.Options.Network != "bridge" {
		return nil
	}
	return netns.Release(c.store.Root, c.ID)
}

// writeNetworkFiles makes hosts, hostname and resolv.conf in the container's
// folder. A container in another's network gets copies of the other's.
func (c *Container) writeNetworkFiles(n Network) error {
	o := &c.Options
	if id, ok := strings.CutPrefix(o.Network, "container:"); ok {
		return c.copyNetworkFiles(id)
	}
	name := c.Hostname
	if o.Domainname != "" {
		name = c.Hostname + "." + o.Domainname + " " + c.Hostname
	}
	gateway := n.Gateway
	if !gateway.IsValid() { // the host itself
		gateway = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	hosts, err := netns.Hosts(name, n.IP, gateway, o.AddHost)
	if err != nil {
		return err
	}
	resolv := netns.HostResolvConf()
	if ownNetwork(o.Network) || len(o.DNS)+len(o.DNSSearch)+len(o.DNSOption) > 0 {
		resolv = netns.ResolvConf(resolv, o.DNS, o.DNSSearch, o.DNSOption)
	}
	return errors.Join(
		os.WriteFile(c.dir+"/hosts", []byte(hosts), 0o644),
		os.WriteFile(c.dir+"/hostname", []byte(c.Hostname+"\n"), 0o644),
		os.WriteFile(c.dir+"/resolv.conf", []byte(resolv), 0o644))
}

func (c *Container) copyNetworkFiles(id string) error {
	for _, name := range networkFiles {
		b, err := os.ReadFile(c.store.dir(id) + "/" + name)
		if err == nil {
			err = os.WriteFile(c.dir+"/"+name, b, 0o644)
		}
		if err != nil {
			return fmt.Errorf("copy %s of the container whose network is shared: %w", name, err)
		}
	}
	return nil
}

var anyAddr = netip.AddrFrom4([4]byte{})
