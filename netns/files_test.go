package netns

import (
	"net/netip"
	"strings"
	"testing"
)

var ip = netip.MustParseAddr

func TestHosts(t *testing.T) {
	got, err := Hosts("web web.example", ip("10.86.3.7"), ip("10.86.0.1"),
		[]string{"db:10.1.2.3", "six:[fd00::1]", "six2:fd00::2", "host.docker.internal:host-gateway", "eq=1.2.3.4"})
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n" +
		"10.1.2.3\tdb\nfd00::1\tsix\nfd00::2\tsix2\n10.86.0.1\thost.docker.internal\n1.2.3.4\teq\n10.86.3.7\tweb web.example\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if got, err := Hosts("web", netip.Addr{}, netip.Addr{}, nil); err != nil || strings.Contains(got, "web") {
		t.Errorf("without a network: %v\n%s", err, got)
	}
	for _, bad := range []string{"db", ":1.2.3.4", "db:", "db:1.2.3", "d b:1.2.3.4", "x:1.2.3.4\n", "x:host-gateway"} {
		if got, err := Hosts("web", ip("10.86.3.7"), netip.Addr{}, []string{bad}); err == nil {
			t.Errorf("%q gave\n%s", bad, got)
		}
	}
}

func TestResolvConf(t *testing.T) {
	host := "# by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fd00::53\nsearch a.example b.example\noptions edns0 trust-ad\n"
	for _, c := range []struct {
		name, host      string
		dns             []netip.Addr
		search, options []string
		want            string
	}{
		{"the host's", host, nil, nil, nil, "nameserver 192.0.2.53\nsearch a.example b.example\noptions edns0 trust-ad\n"},
		{"all given", host, []netip.Addr{ip("127.0.0.1"), ip("fd00::1")}, []string{"x"}, []string{"ndots:2"}, "nameserver 127.0.0.1\nnameserver fd00::1\nsearch x\noptions ndots:2\n"},
		{"no search", host, nil, []string{"."}, nil, "nameserver 192.0.2.53\noptions edns0 trust-ad\n"},
		{"only loopback", "nameserver 127.0.0.53\nnameserver ::1\ndomain old\n", nil, nil, nil, "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch old\n"},
		{"nothing", "", nil, nil, nil, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
	} {
		if got := ResolvConf(c.host, c.dns, c.search, c.options); got != c.want {
			t.Errorf("%s:\n%swant\n%s", c.name, got, c.want)
		}
	}
	for conf, want := range map[string]bool{"": false, "nameserver 127.0.0.53\n": true, "nameserver 127.0.0.53\nnameserver 9.9.9.9\n": false, "nameserver ::1": true} {
		if onlyLoopback(conf) != want {
			t.Errorf("only loopback: %q is not %v", conf, want)
		}
	}
}
