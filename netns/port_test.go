package netns

import (
	"fmt"
	"strings"
	"testing"
)

func TestParsePort(t *testing.T) {
	for in, want := range map[string]string{
		"80":                        "0.0.0.0:0->80/tcp",
		"80/udp":                    "0.0.0.0:0->80/udp",
		"8080:80":                   "0.0.0.0:8080->80/tcp",
		"0:80":                      "0.0.0.0:0->80/tcp",
		":80":                       "0.0.0.0:0->80/tcp",
		"8080:80/TCP":               "0.0.0.0:8080->80/tcp",
		"127.0.0.1:8080:80/udp":     "127.0.0.1:8080->80/udp",
		"127.0.0.1::80":             "127.0.0.1:0->80/tcp",
		"0.0.0.0:53:53/udp":         "0.0.0.0:53->53/udp",
		"[::1]:80:80":               "[::1]:80->80/tcp",
		"[::1]::80":                 "[::1]:0->80/tcp",
		"8080-8082:80-82":           "0.0.0.0:8080->80/tcp 0.0.0.0:8081->81/tcp 0.0.0.0:8082->82/tcp",
		"127.0.0.1:80-81:80-81/udp": "127.0.0.1:80->80/udp 127.0.0.1:81->81/udp",
		"80-82":                     "0.0.0.0:0->80/tcp 0.0.0.0:0->81/tcp 0.0.0.0:0->82/tcp",
		"8000-8010:80":              "0.0.0.0:8000-8010->80/tcp",
		"65535:65535":               "0.0.0.0:65535->65535/tcp",
		"65534-65535:65534-65535":   "0.0.0.0:65534->65534/tcp 0.0.0.0:65535->65535/tcp",
	} {
		ports, err := ParsePort(in)
		var got []string
		for _, p := range ports {
			got = append(got, p.String())
		}
		if s := strings.Join(got, " "); err != nil || s != want {
			t.Errorf("%q: %s, %v, want %s", in, s, err, want)
		}
	}
}

func TestParsePortErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                   `container port "" is not a number from 1 to 65535`,
		"8080:":              `container port "" is not a number from 1 to 65535`,
		"0":                  `container port "0" is not a number`,
		"65536:80":           `host port "65536" is not a number`,
		"80:http":            `container port "http" is not a number`,
		"+80:80":             `host port "+80" is not a number`,
		"80:80/icmp":         `protocol "icmp" is not tcp or udp`,
		"80:80/":             `protocol "" is not tcp or udp`,
		"1.2.3:80:80":        `host address "1.2.3" is not an IP address`,
		"localhost:80:80":    `host address "localhost" is not an IP address`,
		"::1:80:80":          "an IPv6 address in brackets",
		":80:80":             "expected [[IP:]HOST:]CONTAINER",
		"[::1]80:80":         "needs ]: after it",
		"[::1]:80":           "expected HOST:CONTAINER after the address",
		"8080-8082:80-81":    "the ranges 8080-8082 and 80-81 differ in length",
		"8082-8080:80-82":    `host port range "8082-8080" runs backwards`,
		"8080:80-82":         "differ in length",
		"127.0.0.1:80:80:80": "expected [[IP:]HOST:]CONTAINER",
	} {
		ports, err := ParsePort(in)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), fmt.Sprintf("publish %q: ", in)) {
			t.Errorf("%q: %v, %v, want %s", in, ports, err, want)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"80", "1:2", "1.2.3.4:1-2:3-4/udp", "[::1]:1:2", "[", "a:b:c", "-:-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := ParsePort(s)
		if (err == nil) != (len(ports) > 0) {
			t.Fatalf("%q: %v, %v", s, ports, err)
		}
		for _, p := range ports {
			if p.ContainerPort == 0 || p.Proto == "" {
				t.Fatalf("%q: %v", s, p)
			}
		}
	})
}
