package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is a line of nft's language and the expressions nft(8) makes of it
// (`nft --debug=netlink` shows them). Registers 1-4 hold 16 bytes each; 8-23
// are the same space in pieces of four: 9 follows the first four bytes of 1.
type rule struct {
	text  string
	exprs []expr.Any
}

func join(parts ...rule) rule {
	var all rule
	for i, p := range parts {
		if i > 0 {
			all.text += " "
		}
		all.text += p.text
		all.exprs = append(all.exprs, p.exprs...)
	}
	return all
}

// device matches the name of the incoming (iifname) or outgoing (oifname)
// device; not is "" or "!= ".
func device(key, not, name string) rule {
	meta := expr.MetaKeyIIFNAME
	if key == "oifname" {
		meta = expr.MetaKeyOIFNAME
	}
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return rule{fmt.Sprintf("%s %s%q", key, not, name), []expr.Any{
		&expr.Meta{Key: meta, Register: 1},
		&expr.Cmp{Op: op(not), Register: 1, Data: padded},
	}}
}

// inPrefix matches the source (saddr) or destination (daddr) address.
func inPrefix(side, not string, p netip.Prefix) rule {
	at := uint32(12) // RFC 791: the source address
	if side == "daddr" {
		at = 16
	}
	mask := make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	return rule{fmt.Sprintf("ip %s %s%s", side, not, p.Masked()), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op(not), Register: 1, Data: p.Masked().Addr().AsSlice()},
	}}
}

func op(not string) expr.CmpOp {
	if not != "" {
		return expr.CmpOpNeq
	}
	return expr.CmpOpEq
}

// toThisHost matches packets whose destination is one of the host's addresses.
func toThisHost() rule {
	return rule{"fib daddr type local", []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}}
}

// conntrack matches when one of the bits is set.
func conntrack(text string, key expr.CtKey, bits uint32) rule {
	return rule{"ct " + text, []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}}
}

func verdict(kind expr.VerdictKind, chain string) rule {
	text := map[expr.VerdictKind]string{
		expr.VerdictDrop: "drop", expr.VerdictAccept: "accept", expr.VerdictJump: "jump " + chain,
	}[kind]
	return rule{text, []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}

func masquerade() rule { return rule{"masquerade", []expr.Any{&expr.Masq{}}} }

// dnat looks the packet's destination up in one of the two maps; a packet the
// map does not know goes on to the next rule.
func dnat(exact bool) rule {
	proto, port := uint32(1), uint32(9)
	r := rule{text: "dnat ip to meta l4proto . th dport map @" + published}
	name := published
	if exact {
		name = publishedOn
		proto, port = 9, 10
		r.text = "dnat ip to ip daddr . meta l4proto . th dport map @" + publishedOn
		r.exprs = append(r.exprs, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4})
	}
	r.exprs = append(r.exprs,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(nftables.TableFamilyIPv4), RegAddrMin: 1, RegProtoMin: 9})
	return r
}
