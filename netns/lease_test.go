package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func nobody(netip.Addr) (bool, error) { return false, nil }

func leaseMany() {
	subnet := netip.MustParsePrefix("10.86.0.0/24")
	for i := range 50 {
		a, err := lease(os.Getenv("LEASE_ROOT"), fmt.Sprintf("c-%d-%d", os.Getpid(), i), subnet, nobody)
		check(err)
		fmt.Println(a)
	}
	os.Exit(0)
}

// Four processes and a subnet that they nearly fill, so that they do meet.
func TestParallelLeasesAreDistinct(t *testing.T) {
	root := t.TempDir()
	outs := make(chan string)
	for range 4 {
		go func() {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{"NETNS_TEST=lease", "LEASE_ROOT=" + root}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			outs <- string(out)
		}()
	}
	seen := make(map[string]bool)
	for range 4 {
		for _, a := range strings.Fields(<-outs) {
			if seen[a] {
				t.Errorf("%s was leased twice", a)
			}
			seen[a] = true
		}
	}
	if len(seen) != 200 {
		t.Errorf("%d distinct addresses, want 200", len(seen))
	}
}

func TestLeaseFullSubnet(t *testing.T) {
	root, subnet := t.TempDir(), netip.MustParsePrefix("10.86.0.0/29")
	for i := range 5 {
		a, err := lease(root, fmt.Sprint(i), subnet, nobody)
		if err != nil {
			t.Fatal(err)
		}
		if s := a.String(); s == "10.86.0.0" || s == "10.86.0.1" || s == "10.86.0.7" {
			t.Errorf("%s is not for containers", s)
		}
	}
	if _, err := lease(root, "one more", subnet, nobody); err == nil || !strings.Contains(err.Error(), "all 5 of 10.86.0.0/29 are in use") {
		t.Errorf("sixth lease of five: %v", err)
	}
	if _, err := leaseOne(root, "x", subnet, netip.MustParseAddr("10.86.0.3"), nobody); err == nil {
		t.Error("an address in use was leased by name")
	}
	if _, err := leaseOne(root, "x", subnet, netip.MustParseAddr("10.86.0.1"), nobody); err == nil {
		t.Error("the gateway was leased")
	}
}

// A lease and nothing else is what a kill in the middle leaves.
func TestPruneFreesLeaseWithoutRecord(t *testing.T) {
	isolated(t)
	root, subnet := t.TempDir(), netip.MustParsePrefix("10.86.0.0/24")
	for _, id := range []string{"dead", "alive"} {
		if _, err := lease(root, id, subnet, nobody); err != nil {
			t.Fatal(err)
		}
	}
	bad := recordPath(root, "broken")
	if err := errors.Join(os.WriteFile(bad, []byte("id"), 0o600), os.WriteFile(bad+".new", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Prune(root, func(id string) bool { return id == "alive" }); err != nil {
		t.Fatal(err)
	}
	left, err := owners(root)
	if err != nil || len(left) != 1 || len(left["alive"]) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Lstat(bad + ".new"); err == nil {
		t.Error("half a record is left")
	}
}

func TestRecordRoundTrip(t *testing.T) {
	r := &record{id: "abc", addr: netip.MustParseAddr("10.86.1.2"), ports: []Port{
		{HostPort: 8080, ContainerPort: 80, Proto: "tcp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, ContainerPort: 5353, Proto: "udp"},
	}}
	got, err := parseRecord(r.String())
	if err != nil || got.String() != r.String() {
		t.Errorf("%v, %v, want %v", got, err, r)
	}
	for _, s := range []string{"", "id x\n", "id x\naddr y\n", "id x\naddr 10.0.0.1\nport tcp 1.2.3.4 99999 1\n", "what\n"} {
		if r, err := parseRecord(s); err == nil {
			t.Errorf("%q read as %v", s, r)
		}
	}
}

func BenchmarkLease(b *testing.B) {
	root, subnet := b.TempDir(), netip.MustParsePrefix("10.86.0.0/16")
	for i := range b.N % 60000 {
		if _, err := lease(root, fmt.Sprint("id", i), subnet, nobody); err != nil {
			b.Fatal(err)
		}
	}
}
