package netns

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestPlanPrints(t *testing.T) {
	addr := ip("10.86.3.7")
	p := &Plan{
		ID: "0123456789abcdef", HostLink: HostLink("0123456789abcdef"), Device: "eth0",
		Bridge: Bridge{Name: DefaultBridge, Subnet: netip.MustParsePrefix("10.86.0.0/16"), Gateway: ip("10.86.0.1"), MTU: 1500},
		Addr:   netip.PrefixFrom(addr, 16), MAC: macOf(addr),
		elements: []element{{tcp(8080, 80), addr}, {on("127.0.0.1", udp(tcp(53, 5353))), addr}},
	}
	var b bytes.Buffer
	if err := p.Print(&b); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/plan.txt"
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Error(d)
	}
}

func TestHostLink(t *testing.T) {
	for _, id := range []string{"0123456789abcdef", "web", "", strings.Repeat("Z", 300)} {
		if n := HostLink(id); len(n) != 12 || !strings.HasPrefix(n, "vb") {
			t.Errorf("%q: %q", id, n)
		}
	}
	if HostLink("web") == HostLink("wed") {
		t.Error("two names, one device")
	}
}

func TestFreeSubnet(t *testing.T) {
	routes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for want, have := range map[string][]netip.Prefix{
		"10.86.0.0/16":     routes("0.0.0.0/0", "192.168.1.0/24"),
		"10.87.0.0/16":     routes("0.0.0.0/1", "128.0.0.0/1", "10.86.4.0/24"),
		"10.85.0.0/16":     routes("10.86.0.0/15"),
		"172.31.0.0/16":    routes("10.0.0.0/8"),
		"192.168.208.0/20": routes("10.0.0.0/8", "172.16.0.0/12"),
	} {
		if got, err := freeSubnet(subnets(), have); err != nil || got.String() != want {
			t.Errorf("%v: %v, %v, want %s", have, got, err, want)
		}
	}
	if _, err := freeSubnet(subnets(), routes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")); err == nil {
		t.Error("no error with nothing free")
	}
}

func TestBadID(t *testing.T) {
	for _, id := range []string{"", "../x", ".", "a b", "a\nb"} {
		if _, err := Explain(t.TempDir(), Request{ID: id}); err == nil || !strings.Contains(err.Error(), "cannot be a file name") {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// Explain touches nothing.
func TestExplainReservesNothing(t *testing.T) {
	isolated(t)
	root := t.TempDir()
	before := exists(DefaultBridge)
	p, err := Explain(root, Request{ID: "web", Ports: []Port{tcp(0, 80)}})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 || exists(DefaultBridge) != before {
		t.Errorf("left: %v", left)
	}
	q, err := Decide(root, Request{ID: "web"})
	if err != nil || q.Addr != p.Addr {
		t.Errorf("explained %s, decided %v, %v", p.Addr, q, err)
	}
	// A container that runs is explained as it is, and keeps its ports.
	ports := []Port{tcp(9300, 80)}
	if q, err = Decide(root, Request{ID: "web", Ports: ports}); err != nil {
		t.Fatal(err)
	}
	if p, err = Explain(root, Request{ID: "web", Ports: ports}); err != nil || p.Addr != q.Addr {
		t.Errorf("explained %v, %v, decided %v", p, err, q)
	}
	if _, err := Explain(root, Request{ID: "other", Ports: ports}); !errors.Is(err, ErrPortInUse) {
		t.Errorf("the port was let go: %v", err)
	}
	if err := Release(root, "web"); err != nil {
		t.Fatal(err)
	}
}

// Every command pays at its start for what this package imports.
func TestImportsStayLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skip("needs the go command: " + err.Error())
	}
	for _, p := range strings.Fields(string(out)) {
		switch {
		case p == "net/http", p == "crypto/tls", p == "regexp", p == "os/exec",
			strings.Contains(p, "berth-run/berth/") && !strings.HasSuffix(p, "/netns"):
			t.Errorf("imports %s", p)
		}
	}
}
