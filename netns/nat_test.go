package netns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A kernel without an expression answers ENOENT to the whole transaction; the
// error must name the line. A map that is not there stands in for it.
func TestRefusedRuleIsNamed(t *testing.T) {
	isolated(t)
	b := Bridge{Name: DefaultBridge, Subnet: netip.MustParsePrefix("10.86.0.0/16"), Gateway: ip("10.86.0.1")}
	rules := func(table string) []statement {
		list := ruleset(table, b)
		for i, s := range list {
			if strings.HasSuffix(s.text, "map @"+publishedOn) {
				bad := rule{exprs: []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: "nowhere"}}}
				list = append(list[:i:i], append([]statement{badRule(table, bad)}, list[i:]...)...)
				break
			}
		}
		return list
	}
	before := sh(t, "nft list ruleset")
	err := explainRefusal(rules, nil)
	if err == nil || !strings.Contains(err.Error(), "nft add rule ip berth publish is unknown here: the kernel refuses this: ") {
		t.Errorf("%v", err)
	}
	if after := sh(t, "nft list ruleset"); after != before {
		t.Errorf("the rehearsal left\n%s", after)
	}
}

func TestElementRoundTrip(t *testing.T) {
	for _, e := range []element{
		{Port{HostIP: ip("0.0.0.0"), HostPort: 8080, ContainerPort: 80, Proto: "tcp"}, ip("10.86.3.7")},
		{Port{HostIP: ip("127.0.0.1"), HostPort: 53, ContainerPort: 5353, Proto: "udp"}, ip("10.86.255.254")},
	} {
		if got, err := decodeElement(e.encode()); err != nil || got != e {
			t.Errorf("%v, %v, want %v", got, err, e)
		}
	}
}

// A thousand ports are one transaction of a few messages.
func TestManyPorts(t *testing.T) {
	isolated(t)
	ports, err := ParsePort("20000-21199:20000-21199/udp")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	start(t, root, "many", append(ports, on("127.0.0.1", tcp(20000, 80)))...)
	list, err := publishedPorts()
	if err != nil || len(list) != 1201 {
		t.Errorf("%d ports, %v", len(list), err)
	}
	if err := Release(root, "many"); err != nil {
		t.Fatal(err)
	}
	if list, err = publishedPorts(); err != nil || len(list) != 0 {
		t.Errorf("%d ports after Release, %v", len(list), err)
	}
}

func badRule(table string, r rule) statement {
	return statement{"add rule ip " + table + " publish is unknown here", func(c *nftables.Conn) error {
		t := &nftables.Table{Name: table, Family: nftables.TableFamilyIPv4}
		c.AddRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Table: t, Name: "publish"}, Exprs: r.exprs})
		return nil
	}}
}
