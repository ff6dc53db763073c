package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tableName is the nft table that holds all of berth's rules. Nothing outside
// it is touched: nft(8) tables are independent of each other.
const tableName = "berth"

// The maps of published ports. The key of published is protocol and port, that
// of publishedOn the host's address too.
const (
	published   = "published"
	publishedOn = "published_on"
)

// statement is one line of the rule set and the message that carries it out.
// Both stand side by side so that `berth explain` cannot drift from what is
// done; a test loads the printed lines with nft(8) and compares the outcome.
type statement struct {
	text string
	add  func(*nftables.Conn) error
}

// ruleset makes the whole table for one bridge.
func ruleset(name string, b Bridge) []statement {
	t := &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4}
	list := []statement{
		{"add table ip " + name, func(c *nftables.Conn) error { c.AddTable(t); return nil }},
		addMap(t, published, nftables.TypeInetProto, nftables.TypeInetService),
		addMap(t, publishedOn, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
	}
	chain := func(name, hook string, kind nftables.ChainType, prio *nftables.ChainPriority, rules ...rule) {
		c := &nftables.Chain{Table: t, Name: name}
		text := "add chain ip " + t.Name + " " + name
		if hook != "" {
			c.Hooknum, c.Type, c.Priority = hookNumber(hook), kind, prio
			text += fmt.Sprintf(" { type %s hook %s priority %d ; policy accept ; }", kind, hook, *prio)
		}
		list = append(list, statement{text, func(conn *nftables.Conn) error { conn.AddChain(c); return nil }})
		for _, r := range rules {
			list = append(list, statement{
				"add rule ip " + t.Name + " " + name + " " + r.text,
				func(conn *nftables.Conn) error {
					conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: r.exprs})
					return nil
				},
			})
		}
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	in, out, notOut := device("iifname", "", b.Name), device("oifname", "", b.Name), device("oifname", "!= ", b.Name)
	// route_localnet lets a container's neighbour address the host's loopback;
	// only replies to masqueraded connections may come that way, and those
	// carry the gateway's address here, before conntrack (CVE-2020-8558).
	chain("guard", "prerouting", nftables.ChainTypeFilter, nftables.ChainPriorityRaw,
		join(in, inPrefix("daddr", "", loopback), verdict(expr.VerdictDrop, "")))
	// The exact address first: 127.0.0.1:53 may lead elsewhere than *:53.
	chain("publish", "", "", nil, dnat(true), dnat(false))
	// Only what is addressed to this host: a port published on all addresses
	// must not catch packets this host forwards to others. What arrives from
	// outside for 127/8 is a forgery.
	chain("prerouting", "prerouting", nftables.ChainTypeNAT, nftables.ChainPriorityNATDest,
		join(inPrefix("daddr", "!= ", loopback), toThisHost(), verdict(expr.VerdictJump, "publish")))
	chain("output", "output", nftables.ChainTypeNAT, nftables.ChainPriorityNATDest,
		join(toThisHost(), verdict(expr.VerdictJump, "publish")))
	// From outside only answers and published ports: a neighbour that routes
	// the subnet to this host must not find the ports nobody published.
	chain("forward", "forward", nftables.ChainTypeFilter, nftables.ChainPriorityFilter,
		join(in, verdict(expr.VerdictAccept, "")),
		join(out, conntrack("state established,related", expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept, "")),
		join(out, conntrack("status dnat", expr.CtKeySTATUS, statusDNAT), verdict(expr.VerdictAccept, "")),
		join(out, verdict(expr.VerdictDrop, "")))
	// A client from outside keeps its address. Masqueraded are: containers
	// going out; the host's 127.0.0.1, which no container could answer; and a
	// container that reaches its neighbour by a published port, whose answer
	// would otherwise take the short way past the translation.
	chain("postrouting", "postrouting", nftables.ChainTypeNAT, nftables.ChainPriorityNATSource,
		join(inPrefix("saddr", "", b.Subnet), notOut, masquerade()),
		join(inPrefix("saddr", "", loopback), out, masquerade()),
		join(inPrefix("saddr", "", b.Subnet), out, conntrack("status dnat", expr.CtKeySTATUS, statusDNAT), masquerade()))
	return list
}

func hookNumber(name string) *nftables.ChainHook {
	switch name {
	case "prerouting":
		return nftables.ChainHookPrerouting
	case "output":
		return nftables.ChainHookOutput
	case "forward":
		return nftables.ChainHookForward
	default:
		return nftables.ChainHookPostrouting
	}
}

// statusDNAT is IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h.
const statusDNAT = 1 << 5

func addMap(t *nftables.Table, name string, key ...nftables.SetDatatype) statement {
	s := portMap(t, name, key...)
	return statement{
		fmt.Sprintf("add map ip %s %s { type %s : %s ; }", t.Name, name, s.KeyType.Name, s.DataType.Name),
		func(c *nftables.Conn) error { return c.AddSet(s, nil) },
	}
}

func portMap(t *nftables.Table, name string, key ...nftables.SetDatatype) *nftables.Set {
	s := &nftables.Set{Table: t, Name: name, IsMap: true, Concatenation: false}
	// Fails for more than five types only.
	s.KeyType, _ = nftables.ConcatSetType(key...)
	s.DataType, _ = nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	return s
}

// element is one entry of a map: a published port and where it leads.
type element struct {
	port Port
	to   netip.Addr
}

func (e element) mapName() string {
	if e.port.all() {
		return published
	}
	return publishedOn
}

func (e element) String() string {
	key := fmt.Sprintf("%s . %d", e.port.Proto, e.port.HostPort)
	if !e.port.all() {
		key = e.port.HostIP.String() + " . " + key
	}
	return fmt.Sprintf("element ip %s %s { %s : %s . %d }", tableName, e.mapName(), key, e.to, e.port.ContainerPort)
}

// encode lays the entry out in registers of four bytes, as nft concatenations are.
func (e element) encode() nftables.SetElement {
	var key []byte
	if !e.port.all() {
		key = append(key, e.port.HostIP.AsSlice()...)
	}
	key = append(key, protocolNumber(e.port.Proto), 0, 0, 0)
	key = append(binary.BigEndian.AppendUint16(key, e.port.HostPort), 0, 0)
	val := append(binary.BigEndian.AppendUint16(e.to.AsSlice(), e.port.ContainerPort), 0, 0)
	return nftables.SetElement{Key: key, Val: val}
}

func decodeElement(e nftables.SetElement) (element, error) {
	k, v := e.Key, e.Val
	out := element{port: Port{HostIP: netip.IPv4Unspecified()}}
	if len(k) == 12 {
		out.port.HostIP, _ = netip.AddrFromSlice(k[:4])
		k = k[4:]
	}
	if len(k) != 8 || len(v) != 8 {
		return out, fmt.Errorf("published port: key of %d and value of %d bytes in the kernel", len(e.Key), len(v))
	}
	out.port.Proto = "tcp"
	if k[0] == unix.IPPROTO_UDP {
		out.port.Proto = "udp"
	}
	out.port.HostPort = binary.BigEndian.Uint16(k[4:])
	out.to, _ = netip.AddrFromSlice(v[:4])
	out.port.ContainerPort = binary.BigEndian.Uint16(v[4:])
	return out, nil
}

func protocolNumber(name string) byte {
	if name == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func emptyMap(name string) *nftables.Set {
	return &nftables.Set{Table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}, Name: name, IsMap: true}
}

// publishedPorts lists what the maps hold now; nothing when there is no table.
func publishedPorts() ([]element, error) {
	if there, err := tableExists(); err != nil || !there {
		return nil, err
	}
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("list published ports: %w", err)
	}
	defer closeLater(c)
	var list []element
	for _, name := range []string{published, publishedOn} {
		elements, err := c.GetSetElements(emptyMap(name))
		if err != nil {
			return nil, fmt.Errorf("list published ports: nft list map ip %s %s: %w", tableName, name, err)
		}
		for _, raw := range elements {
			e, err := decodeElement(raw)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// addElements publishes ports, all or none. An entry that is there and leads
// to the same place is no error; one that leads elsewhere is EBUSY.
func addElements(list []element) error {
	return changeElements(list, (*nftables.Conn).SetAddElements, "add")
}

func deleteElements(list []element) error {
	return changeElements(list, (*nftables.Conn).SetDeleteElements, "delete")
}

func changeElements(list []element, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error, verb string) error {
	err := transact(func(c *nftables.Conn) error { return collect(c, list, do) })
	if err != nil {
		return fmt.Errorf("nft %s %s: %w", verb, list[0], err)
	}
	return nil
}

func collect(c *nftables.Conn, list []element, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	for _, name := range []string{published, publishedOn} {
		var all []nftables.SetElement
		for _, e := range list {
			if e.mapName() == name {
				all = append(all, e.encode())
			}
		}
		for chunk := range slices.Chunk(all, maxElements) {
			if err := do(c, emptyMap(name), chunk); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxElements go into one message: a netlink attribute ends at 64 KiB, and the
// list of elements, at some 60 bytes each, is one attribute.
const maxElements = 500

// closeLater: see conn.closeLater. An error of close(2) here means nothing to anyone.
func closeLater(c *nftables.Conn) { go func() { _ = c.CloseLasting() }() }

// tableExists asks with a bare request: every start needs the answer.
func tableExists() (bool, error) {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return false, err
	}
	defer c.closeLater()
	r := newRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, 0,
		&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_IPV4}, nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(tableName)))
	if err := c.do(r); err != nil {
		return false, err
	}
	if errors.Is(r.err, unix.ENOENT) {
		return false, nil
	}
	if r.err != nil {
		return false, fmt.Errorf("nft list table ip %s: %w (does this kernel have nf_tables?)", tableName, r.err)
	}
	return true, nil
}

// addTable makes the table in one transaction; fresh replaces one that is there.
func addTable(b Bridge, fresh bool) error {
	rules := func(table string) []statement { return ruleset(table, b) }
	err := transact(func(c *nftables.Conn) error {
		if fresh {
			replaceTable(c, tableName)
		}
		return add(c, rules(tableName))
	})
	if err != nil {
		return explainRefusal(rules, err)
	}
	return nil
}

// explainRefusal finds the statement the kernel refuses, by rehearsing ever
// longer beginnings of the rule set in a table that the same transaction
// removes. The kernel itself says only "no such file or directory" for an
// expression it was built without.
func explainRefusal(rules func(table string) []statement, cause error) error {
	const rehearsal = tableName + "-rehearsal"
	list := rules(rehearsal)
	for n := range list {
		err := transact(func(c *nftables.Conn) error {
			err := add(c, list[:n+1])
			c.DelTable(&nftables.Table{Name: rehearsal, Family: nftables.TableFamilyIPv4})
			return err
		})
		if err != nil {
			return fmt.Errorf("nft %s: the kernel refuses this: %w", rules(tableName)[n].text, err)
		}
	}
	return fmt.Errorf("nft add table ip %s: %w", tableName, cause)
}

// transact sends what f collects as one transaction: all of it happens, or nothing.
func transact(f func(*nftables.Conn) error) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	defer closeLater(c)
	if err := f(c); err != nil {
		return err
	}
	return c.Flush()
}

func add(c *nftables.Conn, list []statement) error {
	for _, s := range list {
		if err := s.add(c); err != nil {
			return fmt.Errorf("%s: %w", s.text, err)
		}
	}
	return nil
}

// replaceTable adds the table before it deletes it, so that there is one.
func replaceTable(c *nftables.Conn, name string) {
	t := &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4}
	c.AddTable(t)
	c.DelTable(t)
}

// removeTable is no error when there is none.
func removeTable() error {
	err := transact(func(c *nftables.Conn) error { replaceTable(c, tableName); return nil })
	if err != nil {
		return fmt.Errorf("nft delete table ip %s: %w", tableName, err)
	}
	return nil
}
