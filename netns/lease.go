package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// record is what a container owns in the network, kept in net/ids/ID so that a
// later process can take it back.
type record struct {
	id    string
	addr  netip.Addr
	ports []Port
}

func idsDir(root string) string    { return filepath.Join(root, "net", "ids") }
func leasesDir(root string) string { return filepath.Join(root, "net", "leases") }

// newSuffix is that of a record that is being written.
const newSuffix = ".new"

func recordPath(root, id string) string { return filepath.Join(idsDir(root), id) }

func leasePath(root string, a netip.Addr) string {
	return filepath.Join(leasesDir(root), a.String())
}

// String is the record's text: one "key value…" line per fact.
func (r *record) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "id %s\naddr %s\n", r.id, r.addr)
	for _, p := range r.ports {
		ip := p.HostIP
		if !ip.IsValid() {
			ip = netip.IPv4Unspecified()
		}
		fmt.Fprintf(&b, "port %s %s %d %d\n", p.Proto, ip, p.HostPort, p.ContainerPort)
	}
	return b.String()
}

func parseRecord(text string) (*record, error) {
	r := &record{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		var err error
		switch {
		case len(f) == 2 && f[0] == "id":
			r.id = f[1]
		case len(f) == 2 && f[0] == "addr":
			r.addr, err = netip.ParseAddr(f[1])
		case len(f) == 5 && f[0] == "port":
			var p Port
			p, err = parsePortLine(f)
			r.ports = append(r.ports, p)
		default:
			err = errors.New("unknown line")
		}
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", strings.TrimSpace(line), err)
		}
	}
	if r.id == "" || !r.addr.IsValid() {
		return nil, errors.New("incomplete")
	}
	return r, nil
}

func parsePortLine(f []string) (Port, error) {
	ip, err := netip.ParseAddr(f[2])
	if err != nil {
		return Port{}, err
	}
	host, err := strconv.ParseUint(f[3], 10, 16)
	if err != nil {
		return Port{}, err
	}
	cont, err := strconv.ParseUint(f[4], 10, 16)
	return Port{Proto: f[1], HostIP: ip, HostPort: uint16(host), ContainerPort: uint16(cont)}, err
}

// loadRecord returns nil without an error when the container owns nothing.
func loadRecord(root, id string) (*record, error) {
	b, err := os.ReadFile(recordPath(root, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("network record of %s: %w", id, err)
	}
	r, err := parseRecord(string(b))
	if err != nil {
		return nil, fmt.Errorf("network record %s: %w", recordPath(root, id), err)
	}
	return r, nil
}

// save writes the record whole or not at all. It is not synced to disk: after
// a power cut there is no network left that it could describe.
func (r *record) save(root string) error {
	path := recordPath(root, r.id)
	tmp := path + newSuffix
	err := os.WriteFile(tmp, []byte(r.String()), 0o600)
	if errors.Is(err, fs.ErrNotExist) { // the first container of this root
		if err = makeDirs(root); err == nil {
			err = os.WriteFile(tmp, []byte(r.String()), 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("network record of %s: %w", r.id, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("network record of %s: %w", r.id, err)
	}
	return nil
}

// lease takes an address of the bridge's subnet for id. A lease is a symbolic
// link named by the address, made by one symlink(2): two processes cannot both
// succeed, and the link says whose it is. The record that names the address is
// written first: whoever removes a container whose start was killed at any
// moment finds there what has to be given back. No lock, no list to scan: the search starts at a place
// derived from the id, so that thousands of containers rarely meet, and an
// address just given back is not handed out again at once (its connection
// tracking entries live for some minutes). taken says what the kernel knows:
// containers of other roots on the same bridge.
func lease(root, id string, subnet netip.Prefix, taken func(netip.Addr) (bool, error)) (netip.Addr, error) {
	first, n := candidates(subnet)
	start := hash(id) % n
	for i := range n {
		a := offset(first, (start+i)%n)
		if ok, err := tryLease(root, id, a, taken); err != nil || ok {
			return a, err
		}
	}
	return netip.Addr{}, fmt.Errorf("lease an address: all %d of %s are in use", n, subnet)
}

// leaseOne takes one given address.
func leaseOne(root, id string, subnet netip.Prefix, a netip.Addr, taken func(netip.Addr) (bool, error)) (netip.Addr, error) {
	first, n := candidates(subnet)
	if !a.Is4() || a.Less(first) || !a.Less(offset(first, n)) {
		return a, fmt.Errorf("lease %s: not an address for a container in %s", a, subnet)
	}
	ok, err := tryLease(root, id, a, taken)
	if err == nil && !ok {
		err = fmt.Errorf("lease %s: address is already in use", a)
	}
	return a, err
}

func tryLease(root, id string, a netip.Addr, taken func(netip.Addr) (bool, error)) (bool, error) {
	if err := (&record{id: id, addr: a}).save(root); err != nil {
		return false, err
	}
	path := leasePath(root, a)
	err := unix.Symlink("../ids/"+id, path)
	if err == unix.EEXIST {
		return leaseOwner(path) == id, nil // left by an earlier run of this container
	}
	if err != nil {
		return false, fmt.Errorf("lease %s: %w", a, err)
	}
	used, err := taken(a)
	if err != nil || used {
		return false, errors.Join(err, os.Remove(path))
	}
	return true, nil
}

// makeDirs makes that of the records last: who can write a record, which is made
// before its lease, finds both there.
func makeDirs(root string) error {
	for _, d := range []string{leasesDir(root), idsDir(root)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("leases: %w", err)
		}
	}
	return nil
}

// leaseOwner is the container a lease belongs to, "" when there is none.
func leaseOwner(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// unlease gives the address back if it is id's.
func unlease(root, id string, a netip.Addr) error {
	path := leasePath(root, a)
	if leaseOwner(path) != id {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("give back lease %s: %w", a, err)
	}
	return nil
}

// candidates are the addresses for containers: all but the network's own, the
// gateway (the first) and the broadcast address.
func candidates(subnet netip.Prefix) (first netip.Addr, n uint32) {
	size := uint32(1) << (32 - subnet.Bits())
	return offset(subnet.Masked().Addr(), 2), size - 3
}

func offset(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s)) // never fails
	return h.Sum32()
}
