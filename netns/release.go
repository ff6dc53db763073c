package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Release takes back everything of a container: published ports, the device,
// the address. What is not there is no error, so it may be called at any time
// and twice.
//
// The device is not deleted: it goes with the container's network namespace,
// which the kernel destroys in the background once its last process is gone
// (15-50 ms here). Asking for it would mean to wait just as long, for RCU grace
// periods with the lock of all network devices held. If someone who joined the
// namespace lives on, the device stays with them. Nothing can collide with it:
// its alternative name keeps the address from being leased, and a restart of
// the same container deletes it first.
func Release(root, id string) error {
	letGo(root, id)
	r, err := loadRecord(root, id)
	if err != nil {
		return err
	}
	if r != nil && leaseOwner(leasePath(root, r.addr)) == id {
		if err := r.unpublish(); err != nil {
			return fmt.Errorf("release the network of container %s: %w", short(id), err)
		}
		if err := unlease(root, id, r.addr); err != nil {
			return err
		}
	}
	return forget(root, id)
}

// forget removes the record, which goes last.
func forget(root, id string) error {
	for _, path := range [...]string{recordPath(root, id), recordPath(root, id) + newSuffix} {
		if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove network record %s: %w", path, err)
		}
	}
	return nil
}

// unpublish deletes the container's entries: those that lead to its address,
// since a port it asked for in vain is another's.
func (r *record) unpublish() error {
	if len(r.ports) == 0 {
		return nil
	}
	all, err := publishedPorts()
	if err != nil {
		return err
	}
	var mine []element
	for _, e := range all {
		if e.to == r.addr {
			mine = append(mine, e)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	if err := deleteElements(mine); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return dropFlows(r.ports, flowsTo(r.addr))
}

// deleteLink is no error when there is no such device.
func (c *conn) deleteLink(name string) error {
	r := newRequest(unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err := c.do(r); err != nil {
		return err
	}
	if r.err != nil && !errors.Is(r.err, unix.ENODEV) {
		return fmt.Errorf("ip link delete %s: %w", name, r.err)
	}
	return nil
}

// Prune frees what containers own that are not alive any more: alive must be
// true from before Decide until after Release. It removes the bridge and the
// table when no container of any root is plugged in.
func Prune(root string, alive func(id string) bool) error {
	owners, err := owners(root)
	if err != nil {
		return err
	}
	var errs []error
	left := 0
	for id, addrs := range owners {
		if alive(id) {
			left++
			continue
		}
		errs = append(errs, pruneOne(root, id, addrs))
	}
	if left == 0 {
		errs = append(errs, removeBridge())
	}
	return errors.Join(errs...)
}

// owners lists every id that has a record or a lease, and its leases.
func owners(root string) (map[string][]netip.Addr, error) {
	ids := make(map[string][]netip.Addr)
	records, err := os.ReadDir(idsDir(root))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list network records: %w", err)
	}
	for _, e := range records {
		ids[strings.TrimSuffix(e.Name(), newSuffix)] = nil
	}
	leases, err := os.ReadDir(leasesDir(root))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	for _, e := range leases {
		a, err := netip.ParseAddr(e.Name())
		if id := leaseOwner(leasePath(root, a)); err == nil && id != "" {
			ids[id] = append(ids[id], a)
		}
	}
	return ids, nil
}

// pruneOne also removes what Release cannot know of: a record that cannot be
// read, a lease that no record names.
func pruneOne(root, id string, addrs []netip.Addr) error {
	err := Release(root, id)
	if _, bad := loadRecord(root, id); bad != nil {
		err = forget(root, id)
	}
	for _, a := range addrs {
		err = errors.Join(err, unlease(root, id, a))
	}
	return err
}

// removeBridge removes the bridge if it has no ports, and the table with it.
func removeBridge() error {
	lock, err := lockNetns(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	b, err := c.getLink(DefaultBridge)
	if err != nil {
		return err
	}
	if b != nil && b.kind == "bridge" {
		used, err := c.hasPorts(b.index)
		if err != nil || used {
			return err
		}
		if err := c.deleteLink(DefaultBridge); err != nil {
			return err
		}
	}
	if there, err := tableExists(); err != nil || !there {
		return nil // a kernel without nf_tables has nothing to remove
	}
	return removeTable()
}

// hasPorts reports whether something lives on a bridge: a port whose other end
// is being destroyed does not.
func (c *conn) hasPorts(bridge int) (bool, error) {
	r := newRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP, nl.NewIfInfomsg(unix.AF_UNSPEC),
		nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge))))
	if err := errors.Join(c.do(r), r.err); err != nil {
		return false, fmt.Errorf("list the bridge's ports: %w", err)
	}
	for _, b := range r.answers {
		l, err := parseLink(b)
		if err != nil {
			return false, err
		}
		if l.master == bridge && l.peer != namespaceDying {
			return true, nil
		}
	}
	return false, nil
}
