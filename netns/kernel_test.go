package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// world is the test's namespace as a host with two other machines on separate
// cables: lan at 192.0.2.2 and other at 198.51.100.2, each with the host (.1)
// as default route, so that the host also is a router between them.
type world struct{ lan, other int }

func newWorld(t *testing.T) world {
	t.Helper()
	isolated(t)
	w := world{container(t, "lan").Process.Pid, container(t, "other").Process.Pid}
	for i, pid := range []int{w.lan, w.other} {
		subnet := []string{"192.0.2", "198.51.100"}[i]
		dev := fmt.Sprintf("cable%d", i)
		sh(t, fmt.Sprintf(`ip link add %[1]s type veth peer name eth0 netns %[2]d
			ip address add %[3]s.1/24 dev %[1]s; ip link set %[1]s up
			nsenter -t %[2]d -n sh -ec "ip link set lo up; ip address add %[3]s.2/24 dev eth0; ip link set eth0 up; ip route add default via %[3]s.1"`,
			dev, pid, subnet))
		t.Cleanup(func() { sh(t, "ip link delete "+dev) })
	}
	// The machines' interfaces come up in the background.
	for range 50 {
		if strings.HasPrefix(ask("tcp", "192.0.2.2:80"), "lan") && strings.HasPrefix(ask("tcp", "198.51.100.2:80"), "other") {
			return w
		}
	}
	t.Fatal("the test's own network does not work")
	return w
}

func tcp(host, cont uint16) Port {
	return Port{HostPort: host, ContainerPort: cont, Proto: "tcp"}
}

func on(ip string, p Port) Port { p.HostIP = netip.MustParseAddr(ip); return p }

func udp(p Port) Port { p.Proto = "udp"; return p }

func TestContainersReachEachOtherAndOut(t *testing.T) {
	w := newWorld(t)
	root := t.TempDir()
	pa, a := start(t, root, "a")
	began := time.Now()
	addrA := pa.Addr.Addr().String()
	if got := ask("tcp", addrA+":80"); got != "a sees "+pa.Bridge.Gateway.String() {
		t.Errorf("host to container: %s", got)
	}
	if d := time.Since(began); d > 200*time.Millisecond {
		t.Errorf("the first connection took %v: a packet was lost while the cable came up", d)
	}
	pb, b := start(t, root, "b")
	addrB := pb.Addr.Addr().String()
	in(t, b.Process.Pid, func() {
		if got := ask("tcp", addrA+":80"); got != "a sees "+addrB {
			t.Errorf("container to container: %s", got)
		}
		if got := ask("udp", addrA+":80"); got != "a sees "+addrB {
			t.Errorf("container to container, udp: %s", got)
		}
		if got := ask("tcp", "127.0.0.1:80"); got != "b sees 127.0.0.1" {
			t.Errorf("container to itself: %s", got)
		}
		if got := ask("tcp", "192.0.2.2:80"); got != "lan sees 192.0.2.1" {
			t.Errorf("container to another machine: %s", got)
		}
	})
	l, err := net.Listen("tcp4", ":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			fmt.Fprintln(c, "host", c.RemoteAddr())
			c.Close()
		}
	}()
	in(t, a.Process.Pid, func() {
		if got := ask("tcp", pa.Bridge.Gateway.String()+":7000"); got != "host sees "+addrA {
			t.Errorf("container to host: %s", got)
		}
	})
	in(t, w.lan, func() {
		if got := ask("tcp", addrA+":80"); !strings.HasPrefix(got, "no answer") {
			t.Errorf("another machine reaches a port nobody published: %s", got)
		}
	})
	neighbourReachesLoopback(t, a.Process.Pid, pa.Bridge.Gateway.String(), "7000")
}

// neighbourReachesLoopback lets a machine send packets for 127.0.0.1 over the
// cable, which must not be answered (CVE-2020-8558).
func neighbourReachesLoopback(t *testing.T, pid int, gateway, port string) {
	t.Helper()
	nsenter := fmt.Sprintf("nsenter -t %d -n sh -ec ", pid)
	sh(t, nsenter+`"ip address del 127.0.0.1/8 dev lo; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip route add 127.0.0.1 via `+gateway+`"`)
	defer sh(t, nsenter+`"ip route del 127.0.0.1; ip address add 127.0.0.1/8 dev lo"`)
	in(t, pid, func() {
		if got := ask("tcp", "127.0.0.1:"+port); !strings.HasPrefix(got, "no answer") {
			t.Errorf("a neighbour reaches the host's 127.0.0.1:%s: %s", port, got)
		}
	})
}

func TestPublishedPorts(t *testing.T) {
	w := newWorld(t)
	root := t.TempDir()
	pa, a := start(t, root, "a", tcp(8080, 80), udp(tcp(8080, 81)), tcp(81, 80),
		on("127.0.0.1", tcp(8081, 80)), on("127.0.0.1", udp(tcp(8081, 80))), on("192.0.2.1", tcp(8082, 80)))
	pb, b := start(t, root, "b", on("198.51.100.1", tcp(8082, 80)))
	gw, addrB := pa.Bridge.Gateway.String(), pb.Addr.Addr().String()
	host := os.Getpid()
	const silence = "no answer"
	for _, c := range []struct {
		from          int
		network, addr string
		want          string
	}{
		{host, "tcp", "127.0.0.1:8080", "a sees " + gw},
		{host, "udp", "127.0.0.1:8080", "a sees " + gw},
		{host, "tcp", "127.0.0.1:8081", "a sees " + gw},
		{host, "udp", "127.0.0.1:8081", "a sees " + gw},
		{host, "tcp", "192.0.2.1:8080", "a sees 192.0.2.1"},
		{host, "tcp", gw + ":8080", "a sees " + gw},
		{host, "tcp", "192.0.2.1:8081", silence},
		{host, "tcp", "127.0.0.1:8082", silence},
		{host, "tcp", "192.0.2.1:8082", "a sees 192.0.2.1"},
		{host, "tcp", "198.51.100.1:8082", "b sees 198.51.100.1"},
		// The real address of the client.
		{w.lan, "tcp", "192.0.2.1:8080", "a sees 192.0.2.2"},
		{w.lan, "udp", "192.0.2.1:8080", "a sees 192.0.2.2"},
		{w.lan, "tcp", "198.51.100.1:8080", "a sees 192.0.2.2"},
		{w.lan, "tcp", "192.0.2.1:8082", "a sees 192.0.2.2"},
		{w.other, "tcp", "198.51.100.1:8082", "b sees 198.51.100.2"},
		// Not more than was asked for.
		{w.lan, "tcp", "192.0.2.1:8081", silence},
		{w.lan, "udp", "192.0.2.1:8081", silence},
		{w.lan, "tcp", "192.0.2.1:80", silence},
		{b.Process.Pid, "tcp", gw + ":8081", silence},
		// Forwarded to another machine, whose port 81 happens to be published here.
		{w.lan, "tcp", "198.51.100.2:81", "other sees 192.0.2.2"},
		{b.Process.Pid, "tcp", "198.51.100.2:81", "other sees 198.51.100.1"},
		// From a container by the host's port: to a neighbour, and to itself.
		{b.Process.Pid, "tcp", "192.0.2.1:8080", "a sees " + gw},
		{b.Process.Pid, "udp", "192.0.2.1:8080", "a sees " + gw},
		{a.Process.Pid, "tcp", "192.0.2.1:8080", "a sees " + gw},
		{b.Process.Pid, "tcp", pa.Addr.Addr().String() + ":80", "a sees " + addrB},
	} {
		in(t, c.from, func() {
			if got := ask(c.network, c.addr); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s %s from %s: %s, want %s", c.network, c.addr, name(c.from, w, a, b), got, c.want)
			}
		})
	}
	neighbourReachesLoopback(t, w.lan, "192.0.2.1", "8081")
	neighbourReachesLoopback(t, b.Process.Pid, gw, "8081")

	for range 2 { // the second time there is nothing to do
		if err := Release(root, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if rules := sh(t, "nft list table ip berth"); strings.Contains(rules, pa.Addr.Addr().String()) || !strings.Contains(rules, addrB) {
		t.Errorf("after Release of a only:\n%s", rules)
	}
	if got := ask("tcp", "127.0.0.1:8080"); !strings.HasPrefix(got, silence) {
		t.Errorf("after Release: %s", got)
	}
	if left, err := owners(root); err != nil || len(left) != 1 {
		t.Errorf("after Release of a: owners %v, %v", left, err)
	}
}

func name(pid int, w world, a, b *exec.Cmd) string {
	return map[int]string{os.Getpid(): "the host", w.lan: "lan", w.other: "other", a.Process.Pid: "a", b.Process.Pid: "b"}[pid]
}

// A client that does not stop sending must get through to a container that
// starts later: connection tracking would go on as it began.
func TestUDPFlowOlderThanThePort(t *testing.T) {
	w := newWorld(t)
	root := t.TempDir()
	start(t, root, "first") // the table, and with it connection tracking, is there
	var c net.Conn
	in(t, w.lan, func() {
		var err error
		if c, err = net.Dial("udp", "192.0.2.1:8090"); err != nil {
			t.Fatal(err)
		}
	})
	defer c.Close()
	for range 3 {
		fmt.Fprintln(c, "too early")
		time.Sleep(10 * time.Millisecond)
	}
	start(t, root, "second", udp(tcp(8090, 80)))
	buf := make([]byte, 100)
	for range 20 {
		fmt.Fprintln(c, "hello")
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(buf); err == nil && strings.HasPrefix(string(buf[:n]), "second 192.0.2.2:") {
			return
		}
	}
	t.Error("no answer")
}

// No packet may be lost right after Apply, neither way: an ARP request is
// repeated only after a second.
func TestFirstPacketGetsThrough(t *testing.T) {
	isolated(t)
	root := t.TempDir()
	l, err := net.Listen("tcp4", ":7001")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			fmt.Fprintln(c, "host", c.RemoteAddr())
			c.Close()
		}
	}()
	for i := range 20 {
		p, cmd := start(t, root, fmt.Sprint("first", i))
		if i%2 == 0 {
			in(t, cmd.Process.Pid, func() {
				if got := ask("tcp", p.Bridge.Gateway.String()+":7001"); got != "host sees "+p.Addr.Addr().String() {
					t.Errorf("container %d: %s", i, got)
				}
			})
		} else if got := ask("tcp", p.Addr.Addr().String()+":80"); !strings.Contains(got, "sees") {
			t.Errorf("to container %d: %s", i, got)
		}
		stop(cmd)
	}
}
