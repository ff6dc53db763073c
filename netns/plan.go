package netns

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Request is what a container asks of the network.
type Request struct {
	ID     string
	Ports  []Port
	Subnet netip.Prefix     // for a bridge that is yet to be made; zero: the first free of a list
	IP     netip.Addr       // zero: one is chosen
	MAC    net.HardwareAddr // nil: derived from the address
}

// Plan is a container's network, decided. Its fields are for reading.
type Plan struct {
	ID       string
	Bridge   Bridge
	HostLink string // the host's end of the veth pair, see HostLink
	Device   string // the container's end: eth0
	Addr     netip.Prefix
	MAC      net.HardwareAddr
	Ports    []Port // with the host ports that were chosen
	// Trace, when set, is told of each step of Apply when it is done. Steps that
	// went to the kernel as one batch have the same times.
	Trace func(step string, err error, began, ended time.Time)

	root     string
	elements []element
}

// HostLink is the name of the host's end of a container's veth pair: vb and
// ten hexadecimal digits, those the id begins with if it does.
func HostLink(id string) string {
	if len(id) >= 10 && strings.Trim(id[:10], "0123456789abcdef") == "" {
		return "vb" + id[:10]
	}
	h := fnv.New64a()
	h.Write([]byte(id)) // never fails
	return fmt.Sprintf("vb%010x", h.Sum64()>>24)
}

// Decide chooses everything and reserves it: an address by a lease below
// root/net, and each host port by a socket bound to it, which this process
// holds until Release or its end, so that another program that wants the port
// is told, instead of being shadowed by the address translation. The id must
// be alive in the sense of Prune by now. A later Decide for the same id takes
// over what an earlier one left. Undo with Release, also after an error of
// Apply; after an error of Decide nothing is left.
//
// A port in use gives an error that is ErrPortInUse and names it.
func Decide(root string, req Request) (*Plan, error) {
	p, err := decide(root, req, true)
	if err != nil && p != nil {
		err = errors.Join(err, Release(root, req.ID))
	}
	if err != nil {
		return nil, fmt.Errorf("network of container %s: %w", short(req.ID), err)
	}
	return p, nil
}

// Explain decides as Decide would now, and reserves nothing.
func Explain(root string, req Request) (*Plan, error) {
	p, err := decide(root, req, false)
	if err != nil {
		return nil, fmt.Errorf("network of container %s: %w", short(req.ID), err)
	}
	return p, nil
}

// decide returns a plan along with an error once something has to be given back.
func decide(root string, req Request, reserve bool) (*Plan, error) {
	if req.ID == "" || strings.ContainsAny(req.ID, "/\n ") || req.ID[0] == '.' {
		return nil, fmt.Errorf("id %q cannot be a file name", req.ID)
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer c.close()
	p := &Plan{ID: req.ID, HostLink: HostLink(req.ID), Device: "eth0", root: root}
	if p.Bridge, err = c.bridgeFor(req); err != nil {
		return nil, err
	}
	old, err := loadRecord(root, req.ID)
	if err != nil {
		return nil, err
	}
	var addr netip.Addr
	if reserve {
		addr, err = c.address(root, req, p.Bridge, old)
	} else {
		addr = likelyAddress(req, p.Bridge, old)
	}
	if err != nil {
		return p, err
	}
	p.Addr = netip.PrefixFrom(addr, p.Bridge.Subnet.Bits())
	if p.MAC = req.MAC; p.MAC == nil {
		p.MAC = macOf(addr)
	}
	if reserve {
		letGo(root, req.ID)
		p.Ports, err = reservePorts(root, req, addr)
	} else {
		p.Ports, err = likelyPorts(req, addr, old)
	}
	if err != nil {
		return p, err
	}
	for _, port := range p.Ports {
		p.elements = append(p.elements, element{port, addr})
	}
	if reserve && (len(p.Ports) > 0 || old != nil) { // else the lease's own record says it all
		err = (&record{id: p.ID, addr: addr, ports: p.Ports}).save(root)
	}
	return p, err
}

func (c *conn) bridgeFor(req Request) (Bridge, error) {
	b, l, err := c.findBridge(DefaultBridge)
	if err != nil {
		return Bridge{}, err
	}
	if l == nil || !b.Subnet.IsValid() {
		return c.newBridge(DefaultBridge, req.Subnet)
	}
	return b, nil
}

// address leases one: that of an earlier run if it still fits, the one asked
// for, or any.
func (c *conn) address(root string, req Request, b Bridge, old *record) (netip.Addr, error) {
	taken := func(a netip.Addr) (bool, error) {
		if a == b.Gateway {
			return true, nil
		}
		l, err := c.getLink(altName(a))
		if err != nil || l == nil {
			return false, nil // a kernel without alternative names (before 5.5) knows nothing
		}
		return l.name != HostLink(req.ID), nil
	}
	if old != nil && (!b.Subnet.Contains(old.addr) || (req.IP.IsValid() && req.IP != old.addr)) {
		if err := Release(root, req.ID); err != nil {
			return netip.Addr{}, err
		}
		old = nil
	}
	if old != nil && leaseOwner(leasePath(root, old.addr)) == req.ID {
		return old.addr, nil
	}
	if req.IP.IsValid() {
		return leaseOne(root, req.ID, b.Subnet, req.IP, taken)
	}
	return lease(root, req.ID, b.Subnet, taken)
}

// likelyAddress is what address would choose if nothing is in the way.
func likelyAddress(req Request, b Bridge, old *record) netip.Addr {
	switch {
	case req.IP.IsValid():
		return req.IP
	case old != nil:
		return old.addr
	}
	first, n := candidates(b.Subnet)
	return offset(first, hash(req.ID)%n)
}

// bridgeSteps are done once for the bridge, in this order: the bridge is up last,
// so that an "up" bridge with a table tells everyone else that all is there.
func (p *Plan) bridgeSteps() []step {
	b := p.Bridge
	conf := filepath.Join("/proc/sys/net/ipv4/conf", b.Name)
	rules := step{do: func() error { return addTable(b, false) }}
	var lines []string
	for _, s := range ruleset(tableName, b) {
		lines = append(lines, "nft '"+s.text+"'")
	}
	rules.text = strings.Join(lines, "\n")
	return []step{
		addBridge(b),
		// A container could send router advertisements to the host.
		setKernel("1", filepath.Join("/proc/sys/net/ipv6/conf", b.Name, "disable_ipv6"), true),
		addAddress(netip.PrefixFrom(b.Gateway, b.Subnet.Bits()), b.Name, func(d *devices) int { return d.bridge }),
		setKernel("1", "/proc/sys/net/ipv4/ip_forward", false),
		// The host's 127.0.0.1 is translated towards the bridge, and back.
		setKernel("1", filepath.Join(conf, "route_localnet"), false),
		rules,
		setUp(b.Name),
	}
}

// hostSteps plug one container in.
func (p *Plan) hostSteps() []step {
	list := []step{p.addVeth(), p.addAltName()}
	if len(p.elements) > 0 {
		list = append(list, p.addHairpin())
	}
	return list
}

// portSteps come last: a published port should lead to a network that is there.
func (p *Plan) portSteps() []step {
	var list []step
	for _, e := range p.elements {
		list = append(list, step{text: "nft 'add " + e.String() + "'"})
	}
	return list
}

// innerSteps are done inside the container's namespace.
func (p *Plan) innerSteps() []step {
	return []step{
		setUp("lo"),
		addAddress(p.Addr, p.Device, func(d *devices) int { return d.eth }),
		setUp(p.Device),
		addDefaultRoute(p.Bridge.Gateway),
	}
}

// Print writes the plan as the lines a person would type, $PID being the
// container's process. The steps for the bridge are those of a first container.
func (p *Plan) Print(w io.Writer) error { return p.print(w, "$PID") }

// PrintFor is Print with the number of the container's process.
func (p *Plan) PrintFor(w io.Writer, pid int) error { return p.print(w, strconv.Itoa(pid)) }

func (p *Plan) print(w io.Writer, pid string) error {
	var b strings.Builder
	section := func(title, prefix string, steps []step) {
		if len(steps) == 0 {
			return
		}
		b.WriteString("# " + title + "\n")
		for _, s := range steps {
			for line := range strings.Lines(s.text + "\n") {
				b.WriteString(prefix + strings.ReplaceAll(line, "$PID", pid))
			}
		}
	}
	section("once: the bridge, and address translation for all its containers", "", p.bridgeSteps())
	section("this container's cable", "", p.hostSteps())
	section("inside its network namespace", "nsenter -t "+pid+" -n ", p.innerSteps())
	section("published ports", "", p.portSteps())
	_, err := io.WriteString(w, b.String())
	return err
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
