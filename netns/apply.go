package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Apply carries the plan out for the network namespace of process pid, which
// must be a new one. The caller must be in the namespace of the bridge. After
// an error Release takes back what was done.
func (p *Plan) Apply(pid int) error {
	ns, err := openNetns(pid)
	if err != nil {
		return fmt.Errorf("network of container %s: %w", short(p.ID), err)
	}
	defer unix.Close(ns)
	if err := p.apply(ns); err != nil {
		return fmt.Errorf("network of container %s: %w", short(p.ID), err)
	}
	return nil
}

func openNetns(pid int) (int, error) {
	ns, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the network namespace of process %d: %w", pid, err)
	}
	return ns, nil
}

func (p *Plan) apply(ns int) error {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	d := &devices{ns: ns}
	lock, err := p.ensureBridge(c, d)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := p.plugIn(c, d); err != nil {
		return err
	}
	inner, err := dialIn(ns)
	if err != nil {
		return err
	}
	defer inner.close()
	if err := p.run(inner, p.innerSteps(), d); err != nil {
		return err
	}
	if err := p.publish(); err != nil {
		return err
	}
	return p.settle(c, inner)
}

// settle waits until a packet would get through. A device that is switched on
// drops what it should send until the kernel's link watch has run in the
// background and made its queue real and its bridge port forwarding; a lost
// ARP request costs the container's first connection a whole second. Since 6.9
// asking for a device does that work at once, so that this is one look each.
func (p *Plan) settle(c, inner *conn) error {
	for wait := 100 * time.Microsecond; wait < 500*time.Millisecond; wait *= 2 {
		// In the order in which one makes the next ready.
		ready := true
		for _, end := range []struct {
			c    *conn
			name string
		}{{inner, p.Device}, {c, p.HostLink}, {c, p.Bridge.Name}} {
			l, err := end.c.getLink(end.name)
			if err != nil {
				return err
			}
			ready = ready && l != nil && l.ready
		}
		if ready {
			return nil
		}
		time.Sleep(wait)
	}
	return nil // then the first packets are lost: no reason to fail
}

// ensureBridge returns with the bridge there and locked against removal:
// shared when it was there before, else exclusively by the one who made it.
func (p *Plan) ensureBridge(c *conn, d *devices) (*os.File, error) {
	lock, err := lockNetns(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	if ok, err := p.bridgeReady(c, d); ok || err != nil {
		return closeOn(err, lock)
	}
	lock.Close()
	if lock, err = lockNetns(unix.LOCK_EX); err != nil {
		return nil, err
	}
	if ok, err := p.bridgeReady(c, d); ok || err != nil {
		return closeOn(err, lock)
	}
	return closeOn(p.makeBridge(c, d), lock)
}

func closeOn(err error, lock *os.File) (*os.File, error) {
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func (p *Plan) bridgeReady(c *conn, d *devices) (bool, error) {
	l, err := c.getLink(p.Bridge.Name)
	if err != nil || l == nil || !l.up {
		return false, err
	}
	d.bridge = l.index
	return tableExists()
}

// makeBridge does the steps that are not done yet. Each is idempotent, so that
// what a killed berth left half made is finished.
func (p *Plan) makeBridge(c *conn, d *devices) error {
	b, l, err := c.findBridge(p.Bridge.Name)
	if err != nil {
		return err
	}
	if l != nil && b.Subnet.IsValid() && b.Gateway != p.Bridge.Gateway {
		return fmt.Errorf("bridge %s became %s while this container was decided for %s: try again", b.Name, b.Subnet, p.Bridge.Subnet)
	}
	for _, s := range p.bridgeSteps() {
		begin := time.Now()
		switch {
		case s.rtnl != nil:
			err = p.run(c, []step{s}, d)
		case s.file != "":
			err = s.error(s.write())
		case s.do != nil:
			// Rules of a bridge that is gone may be for another subnet.
			err = p.makeTable(l == nil)
		}
		if s.rtnl == nil {
			p.did(s.text, err, begin)
		}
		if err != nil {
			return err
		}
		if d.bridge == 0 {
			made, err := c.getLink(p.Bridge.Name)
			if err != nil {
				return err
			}
			if made == nil {
				return fmt.Errorf("bridge %s vanished while it was made", p.Bridge.Name)
			}
			d.bridge = made.index
		}
	}
	return nil
}

func (p *Plan) makeTable(fresh bool) error {
	there, err := tableExists()
	if err != nil || (there && !fresh) {
		return err
	}
	return addTable(p.Bridge, fresh)
}

// run sends the steps as one batch and reports the first that failed.
func (p *Plan) run(c *conn, steps []step, d *devices, more ...*request) error {
	begin := time.Now()
	reqs := make([]*request, 0, len(steps)+len(more))
	for _, s := range steps {
		reqs = append(reqs, s.rtnl(d))
	}
	if err := c.do(append(reqs, more...)...); err != nil {
		return err
	}
	var failed error
	for i, s := range steps {
		p.did(s.text, reqs[i].err, begin)
		if err := s.error(reqs[i].err); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

func (p *Plan) did(step string, err error, begin time.Time) {
	if p.Trace != nil {
		p.Trace(step, err, begin, time.Now())
	}
}

// plugIn makes the veth pair and learns the number of its inner end.
func (p *Plan) plugIn(c *conn, d *devices) error {
	// Alone in its batch: if it fails, what follows would change another's device.
	steps := p.hostSteps()
	get := linkByName(p.HostLink)
	err := p.run(c, steps[:1], d, get)
	if errors.Is(err, unix.EEXIST) {
		if err = p.removeLeftover(c); err != nil {
			return err
		}
		get = linkByName(p.HostLink)
		err = p.run(c, steps[:1], d, get)
	}
	if err != nil {
		return err
	}
	l, err := get.link(p.HostLink)
	if err != nil {
		return err
	}
	if l == nil || l.other == 0 {
		return fmt.Errorf("device %s vanished while it was configured", p.HostLink)
	}
	d.eth = l.other
	err = p.run(c, steps[1:], d)
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("address %s was taken by a container of another root just now: %w", p.Addr.Addr(), err)
	}
	return err
}

// removeLeftover deletes the device of this container's last run. Its namespace
// is being destroyed (a matter of milliseconds) or is kept by someone who
// joined it. A device that bears another address belongs to a container whose
// id begins alike.
func (p *Plan) removeLeftover(c *conn) error {
	l, err := c.getLink(p.HostLink)
	if l == nil || err != nil {
		return err // gone by now
	}
	if l.peer != namespaceDying {
		mine, err := c.getLink(altName(p.Addr.Addr()))
		if err != nil {
			return err
		}
		if mine == nil || mine.index != l.index {
			return fmt.Errorf("device %s belongs to another container", p.HostLink)
		}
	}
	return c.deleteLink(p.HostLink)
}

// publish makes the ports answer. UDP flows that began before have connection
// tracking entries without translation, which would keep them away for as long
// as the client goes on: they are dropped (conntrack -D).
func (p *Plan) publish() error {
	if len(p.elements) == 0 {
		return nil
	}
	begin := time.Now()
	err := addElements(p.elements)
	for _, s := range p.portSteps() {
		p.did(s.text, err, begin)
	}
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("%w: %w", ErrPortInUse, err)
	}
	if err != nil {
		return err
	}
	return dropFlows(p.Ports, func(f *netlink.ConntrackFilter, port Port) error {
		return f.AddPort(netlink.ConntrackOrigDstPort, port.HostPort)
	})
}

// dropFlows removes connection tracking entries of the UDP ports among ports.
func dropFlows(ports []Port, match func(*netlink.ConntrackFilter, Port) error) error {
	var filters []netlink.CustomConntrackFilter
	for _, port := range ports {
		if port.Proto != "udp" {
			continue
		}
		f := &netlink.ConntrackFilter{}
		if err := errors.Join(f.AddProtocol(unix.IPPROTO_UDP), match(f, port)); err != nil {
			return fmt.Errorf("conntrack -D for udp port %d: %w", port.HostPort, err)
		}
		filters = append(filters, f)
	}
	if len(filters) == 0 {
		return nil
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters...); err != nil {
		return fmt.Errorf("conntrack -D -p udp: %w", err)
	}
	return nil
}

// flowsTo matches entries whose answers come from a container's address.
func flowsTo(a netip.Addr) func(*netlink.ConntrackFilter, Port) error {
	return func(f *netlink.ConntrackFilter, _ Port) error {
		return f.AddIP(netlink.ConntrackReplySrcIP, a.AsSlice())
	}
}
