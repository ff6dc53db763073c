// Package netns gives a container its network: one bridge, one veth pair, one
// address, and network address translation in both directions.
//
//	 host namespace                               container's namespace
//	┌───────────────────────────────────────┐    ┌──────────────────────┐
//	│ eth0 ── nft table "berth" ── berth0   │    │                      │
//	│         masquerade, dnat     10.86.0.1│    │ eth0 10.86.x.y/16    │
//	│                               │       │    │ default via 10.86.0.1│
//	│                             vb1a2b3c4d═════╪═▶                    │
//	└───────────────────────────────────────┘    └──────────────────────┘
//
// Everything is decided first, by [Decide], as a [Plan]: a flat list of steps
// that prints as the `ip`, `nft` and `echo` lines a person would type, and that
// [Plan.Apply] then sends over netlink. No program is run.
//
// # What is remembered, and where
//
// The kernel is the memory for everything it can answer itself: the subnet is
// the bridge's address, the published ports are the elements of two nft maps,
// an address in use is an alternative name (berth-ip-10.86.3.7) of its veth. So
// each network namespace berth runs in has its own bridge, and several state
// roots can share one bridge without handing out an address twice. Files below
// ROOT/net say which container owns what, so that [Release] and [Prune] can
// undo it after any crash:
//
//	net/ids/ID        the record: address, published ports
//	net/leases/ADDR   symbolic link to ../ids/ID; made in one call or not at all
//
// # Limits
//
// IPv4 only: the container has no routable IPv6 address. Where another firewall
// drops forwarded packets (docker sets the policy of iptables' FORWARD chain to
// DROP), an accept here does not override its drop: every base chain of a hook
// has its own veto. Such a host needs
// `iptables -I DOCKER-USER -i berth0 -j ACCEPT` and the same with `-o berth0`.
// ip_forward, once switched on, stays on when the bridge goes: others may rely
// on it by then.
package netns
