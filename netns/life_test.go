package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func exists(dev string) bool { _, err := net.InterfaceByName(dev); return err == nil }

func gone(t *testing.T, dev string) {
	t.Helper()
	for range 200 {
		if !exists(dev) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("device %s is still there", dev)
}

func TestPruneLeavesNothing(t *testing.T) {
	isolated(t)
	root := t.TempDir()
	pa, a := start(t, root, "a", tcp(8080, 80), udp(tcp(8080, 80)))
	_, b := start(t, root, "b", on("127.0.0.1", tcp(8081, 80)))
	stop(a) // and its berth was killed before it could release anything
	if err := Prune(root, func(id string) bool { return id == "b" }); err != nil {
		t.Fatal(err)
	}
	gone(t, pa.HostLink)
	rules := sh(t, "nft list table ip berth")
	if strings.Contains(rules, "8080") || !strings.Contains(rules, "8081") || !exists(DefaultBridge) {
		t.Errorf("with b alive:\n%s", rules)
	}
	none := func(string) bool { return false }
	if err := Prune(root, none); err != nil { // its process is alive, its container is not
		t.Fatal(err)
	}
	if !exists(DefaultBridge) {
		t.Error("the bridge was removed with a container plugged in")
	}
	stop(b)
	gone(t, HostLink("b"))
	for range 2 {
		if err := Prune(root, none); err != nil {
			t.Fatal(err)
		}
	}
	if out := sh(t, "nft list ruleset; ip -br link | grep -v ^lo || true"); out != "" {
		t.Errorf("left in the kernel:\n%s", out)
	}
	for _, dir := range []string{idsDir(root), leasesDir(root)} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

// The kernel is still destroying the first one's device when the second starts.
func TestRestartAtOnce(t *testing.T) {
	isolated(t)
	root := t.TempDir()
	for i := range 3 {
		p, cmd := start(t, root, "same", tcp(8080, 80))
		if got := ask("tcp", "127.0.0.1:8080"); got != "same sees "+p.Bridge.Gateway.String() {
			t.Errorf("run %d: %s", i, got)
		}
		stop(cmd)
		if i == 0 {
			continue // killed before Release
		}
		if err := Release(root, "same"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	isolated(t)
	root, elsewhere := t.TempDir(), t.TempDir()
	l, err := net.Listen("tcp", ":9100") // IPv6 and IPv4, as Go's servers do
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start(t, root, "a", on("127.0.0.1", tcp(9101, 80)), tcp(9103, 80))
	for _, c := range []struct {
		port Port
		want string
	}{
		{tcp(9100, 80), "publish 0.0.0.0:9100->80/tcp: port is already in use by a program on this host"},
		{on("127.0.0.1", tcp(9100, 80)), "publish 127.0.0.1:9100->80/tcp: port is already in use"},
		{on("127.0.0.1", tcp(9101, 80)), "publish 127.0.0.1:9101->80/tcp: port is already in use"},
		{tcp(9101, 80), "publish 0.0.0.0:9101->80/tcp: port is already in use"},
		{on("127.0.0.1", tcp(9103, 80)), "publish 127.0.0.1:9103->80/tcp: port is already in use"},
		{on("192.0.2.77", tcp(9104, 80)), "publish 192.0.2.77:9104->80/tcp: cannot assign requested address"},
		{on("::1", tcp(9104, 80)), "publish [::1]:9104->80/tcp: only IPv4"},
	} {
		for _, r := range []string{root, elsewhere} {
			p, err := Decide(r, Request{ID: "b", Ports: []Port{tcp(9199, 1), c.port}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want %q", p, err, c.want)
			}
			if owned, _ := owners(r); len(owned["b"]) != 0 {
				t.Errorf("%v: a refused container keeps %v", c.port, owned)
			}
		}
	}
	if _, err := net.Listen("tcp4", "127.0.0.1:9103"); err == nil {
		t.Error("a program could bind a published port")
	}
	// The berth that held the socket is gone, the container is not.
	letGo(root, "a")
	_, err = Decide(root, Request{ID: "b", Ports: []Port{tcp(9101, 80)}})
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), "another container has 127.0.0.1:9101") {
		t.Errorf("by the map: %v", err)
	}
	p, err := Decide(root, Request{ID: "b", Ports: []Port{udp(tcp(9101, 80)), tcp(0, 80), {HostPort: 9100, HostPortEnd: 9105, ContainerPort: 80, Proto: "tcp"}}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Ports[1].HostPort == 0 || p.Ports[2].HostPort != 9102 || p.Ports[2].HostPortEnd != 0 {
		t.Errorf("chosen: %v", p.Ports)
	}
	if err := Release(root, "b"); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp4", ":9102"); err != nil {
		t.Errorf("after Release: %v", err)
	} else {
		l.Close()
	}
}

// runMany is one of several berths that start at once. It plugs in containers
// and prunes in between, as if it were alone.
func runMany() {
	root, n := os.Getenv("ROOT"), 0
	for _, pid := range strings.Fields(os.Getenv("PIDS")) {
		id := "c" + pid
		p, err := Decide(root, Request{ID: id, Ports: []Port{tcp(0, 80)}})
		check(err)
		n, err = strconv.Atoi(pid)
		check(err)
		check(p.Apply(n))
		fmt.Println(id, p.Addr.Addr(), p.Ports[0].HostPort)
		check(Prune(root, func(other string) bool { return other != "nobody" }))
		check(Prune(os.TempDir()+"/no-such-root", func(string) bool { return false }))
	}
	os.Exit(0)
}

func TestParallelFirstUse(t *testing.T) {
	isolated(t)
	none := func(string) bool { return false }
	roots := []string{t.TempDir(), t.TempDir()}
	var pids [4][]string
	for i := range 12 {
		cmd := container(t, "c")
		pids[i%4] = append(pids[i%4], fmt.Sprint(cmd.Process.Pid))
	}
	outs := make(chan string)
	for i := range 4 {
		go func() {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{"NETNS_TEST=berth", "ROOT=" + roots[i%2], "PIDS=" + strings.Join(pids[i], " ")}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			outs <- string(out)
		}()
	}
	var all string
	for range 4 {
		all += <-outs
	}
	addrs := make(map[string]bool)
	for line := range strings.Lines(all) {
		f := strings.Fields(line)
		addrs[f[1]] = true
		if got := ask("tcp", f[1]+":80"); !strings.HasPrefix(got, "c sees") {
			t.Errorf("%s: %s", f[1], got)
		}
		if got := ask("tcp", "127.0.0.1:"+f[2]); !strings.HasPrefix(got, "c sees") {
			t.Errorf("port %s: %s", f[2], got)
		}
	}
	if len(addrs) != 12 {
		t.Errorf("%d addresses of 12:\n%s", len(addrs), all)
	}
	if n := strings.Count(sh(t, "nft list table ip berth"), "masquerade"); n != 3 {
		t.Errorf("%d rules to masquerade, want 3", n)
	}
	if n := strings.Count(sh(t, "ip -o -4 address show dev berth0"), "inet "); n != 1 {
		t.Errorf("%d addresses on the bridge", n)
	}
	for _, r := range roots {
		if err := Prune(r, none); err != nil {
			t.Error(err)
		}
	}
}

// Whenever a berth is killed, Prune finds all that it made.
func TestKilledAtAnyMoment(t *testing.T) {
	isolated(t)
	none := func(string) bool { return false }
	for range 200 { // the containers of earlier tests
		if !strings.Contains(sh(t, "ip -br link"), "vb") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for i := range 20 {
		root, c := t.TempDir(), container(t, "c")
		berth := exec.Command("/proc/self/exe")
		berth.Env = []string{"NETNS_TEST=berth", "ROOT=" + root, fmt.Sprint("PIDS=", c.Process.Pid)}
		if err := berth.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 500 * time.Microsecond) // it is done after about 10 ms
		stop(berth)
		stop(c)
		if err := Prune(root, none); err != nil {
			t.Fatal(err)
		}
		gone(t, HostLink(fmt.Sprint("c", c.Process.Pid)))
		if err := Prune(root, none); err != nil {
			t.Fatal(err)
		}
		files, _ := os.ReadDir(idsDir(root))
		leases, _ := os.ReadDir(leasesDir(root))
		rules := sh(t, "nft list ruleset")
		if len(files)+len(leases) != 0 || rules != "" || exists(DefaultBridge) {
			t.Fatalf("killed after %v: left %v, %v, %s", time.Duration(i)*500*time.Microsecond, files, leases, rules)
		}
	}
}

// churn is a berth whose containers are short: again and again the bridge is
// about to be removed when another berth wants to plug in.
func churn() {
	root := os.Getenv("ROOT")
	for i := range 15 {
		cmd := exec.Command("sleep", "100")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		check(cmd.Start())
		id := fmt.Sprintf("c%d-%d", os.Getpid(), i)
		p, err := Decide(root, Request{ID: id})
		check(err)
		check(p.Apply(cmd.Process.Pid))
		b, err := net.InterfaceByName(DefaultBridge)
		check(err)
		out, err := exec.Command("ip", "-o", "link", "show", "dev", p.HostLink).Output()
		check(err)
		if !strings.Contains(string(out), "master "+b.Name) {
			check(fmt.Errorf("not plugged in: %s", out))
		}
		stop(cmd)
		check(Release(root, id))
		for range 30 {
			check(Prune(root, func(string) bool { return false }))
			time.Sleep(time.Millisecond)
		}
	}
	os.Exit(0)
}

func TestParallelChurn(t *testing.T) {
	isolated(t)
	done := make(chan bool)
	for range 4 {
		root := t.TempDir()
		go func() {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "NETNS_TEST=churn", "ROOT="+root)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	if err := Prune(t.TempDir(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
}

// Two ids whose first ten digits are the same want the same device.
func TestForeignDeviceIsLeftAlone(t *testing.T) {
	isolated(t)
	root := t.TempDir()
	a, _ := start(t, root, "abcdefabcd-a")
	p, err := Decide(root, Request{ID: "abcdefabcd-b"})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Apply(container(t, "b").Process.Pid)
	if err == nil || !strings.Contains(err.Error(), "device vbabcdefabcd belongs to another container") {
		t.Errorf("%v", err)
	}
	if err := Release(root, "abcdefabcd-b"); err != nil {
		t.Fatal(err)
	}
	if got := ask("tcp", a.Addr.Addr().String()+":80"); !strings.Contains(got, "sees") {
		t.Error(got)
	}
	if alt := sh(t, "ip link show dev "+a.HostLink); strings.Contains(alt, p.Addr.Addr().String()) {
		t.Error(alt)
	}
}

// Another root on the same bridge: its leases are not in our files.
func TestRootsShareOneBridge(t *testing.T) {
	isolated(t)
	pa, _ := start(t, t.TempDir(), "same")
	pb, err := Decide(t.TempDir(), Request{ID: "same"})
	if err != nil {
		t.Fatal(err)
	}
	// The same id, hence the same name of the device: it counts as its own.
	if pb.Addr != pa.Addr {
		t.Errorf("%s, want %s", pb.Addr, pa.Addr)
	}
	root := t.TempDir()
	if _, err := Decide(root, Request{ID: "other", IP: pa.Addr.Addr()}); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("an address of another root was leased: %v", err)
	}
	if pa.Bridge.Gateway != netip.MustParseAddr("10.86.0.1") {
		t.Errorf("gateway %s", pa.Bridge.Gateway)
	}
}

// The lines that explain prints, typed into a shell, make the same network.
func TestPrintedPlanIsTheAppliedOne(t *testing.T) {
	isolated(t)
	root := t.TempDir()
	ports := []Port{tcp(8080, 80), on("127.0.0.1", udp(tcp(8081, 81)))}
	p, applied := start(t, root, "0123456789abcdef", ports...)
	host, typed := container(t, "typing host"), container(t, "typed")
	var script strings.Builder
	if err := p.PrintFor(&script, typed.Process.Pid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(host.Process.Pid), "-n", "sh", "-ex")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	look := func(pid int, what string) string {
		return sh(t, fmt.Sprintf("nsenter -t %d -n sh -ec '%s'", pid, what))
	}
	for _, what := range []string{
		"nft list ruleset",
		"ip -4 -br address show dev berth0; ip -br link show dev berth0; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/berth0/route_localnet",
		"ip -o link show dev " + p.HostLink + " | grep -o \"vb.* mtu [0-9]*\\|master.*state\\|altname.*\"",
	} {
		if a, b := look(os.Getpid(), what), look(host.Process.Pid, what); a != b {
			t.Errorf("%s: applied\n%s\ntyped\n%s", what, a, b)
		}
	}
	inside := "ip -4 -o address | cut -d\\\\ -f2-; ip route; ip -br link show dev lo; ip -o link show dev eth0 | grep -o \"mtu [0-9]*\\|ether [0-9a-f:]*\""
	if a, b := look(applied.Process.Pid, inside), look(typed.Process.Pid, inside); a != b {
		t.Errorf("inside: applied\n%s\ntyped\n%s", a, b)
	}
}
