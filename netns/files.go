package netns

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Hosts is the content of a container's /etc/hosts. hostname may be several
// names separated by blanks; an invalid ip (network none) leaves its line out.
// addHosts are NAME:IP or NAME=IP, where the IP may be host-gateway, which
// stands for gateway.
func Hosts(hostname string, ip, gateway netip.Addr, addHosts []string) (string, error) {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\n" +
		"ff00::0\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n")
	for _, s := range addHosts {
		name, addr, err := parseAddHost(s, gateway)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	if ip.IsValid() && hostname != "" {
		fmt.Fprintf(&b, "%s\t%s\n", ip, hostname)
	}
	return b.String(), nil
}

func parseAddHost(s string, gateway netip.Addr) (string, netip.Addr, error) {
	i := strings.IndexAny(s, ":=")
	if i <= 0 || strings.ContainsAny(s, " \t\n") {
		return "", netip.Addr{}, fmt.Errorf("add host %q: expected NAME:IP", s)
	}
	name, text := s[:i], strings.Trim(s[i+1:], "[]")
	if text == "host-gateway" {
		if !gateway.IsValid() {
			return "", netip.Addr{}, fmt.Errorf("add host %q: this network has no gateway", s)
		}
		return name, gateway, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return "", netip.Addr{}, fmt.Errorf("add host %q: %q is not an IP address", s, text)
	}
	return name, addr, nil
}

// ResolvConf is the content of a container's /etc/resolv.conf, made from the
// host's. Name servers on the host's loopback cannot be reached from another
// network namespace, IPv6 ones not without a route: both are dropped, and when
// none is left Google's public ones stand in, as docker does. What dns, search
// and options give replaces the host's lines of that kind; a search of "."
// means none. See resolv.conf(5).
func ResolvConf(host string, dns []netip.Addr, search, options []string) string {
	var servers, hostSearch, hostOptions []string
	for line := range strings.Lines(host) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && a.Is4() && !a.IsLoopback() {
				servers = append(servers, f[1])
			}
		case "search", "domain":
			hostSearch = f[1:] // the last one wins, resolv.conf(5)
		case "options":
			hostOptions = append(hostOptions, f[1:]...)
		}
	}
	if len(dns) > 0 {
		servers = servers[:0]
		for _, a := range dns {
			servers = append(servers, a.String())
		}
	} else if len(servers) == 0 {
		servers = []string{"8.8.8.8", "8.8.4.4"}
	}
	if len(search) == 0 {
		search = hostSearch
	}
	if len(options) == 0 {
		options = hostOptions
	}
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(search) > 0 && !(len(search) == 1 && search[0] == ".") {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String()
}

// HostResolvConf reads the host's resolver settings for ResolvConf: where
// /etc/resolv.conf names only a server on loopback (systemd-resolved's stub,
// 127.0.0.53), the file with the real ones, if systemd keeps one. A host
// without the file is "", not an error.
func HostResolvConf() string {
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return ""
	}
	if onlyLoopback(string(b)) {
		if real, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
			return string(real)
		}
	}
	return string(b)
}

func onlyLoopback(conf string) bool {
	found := false
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil || !a.IsLoopback() {
			return false
		}
		found = true
	}
	return found
}
