package container

import (
	"fmt"
	"strings"
)

// maxHostname is the kernel's (sethostname(2), __NEW_UTS_LEN).
const maxHostname = 64

// checkHostname refuses what the kernel would, and what no resolver could read in
// /etc/hosts.
func checkHostname(s string) error {
	if len(s) > maxHostname {
		return fmt.Errorf("--hostname %s: it has %d letters, the kernel takes %d", s, len(s), maxHostname)
	}
	bad := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
	if bad >= 0 || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") {
		return fmt.Errorf("--hostname %q: want letters, digits, hyphens and points", s)
	}
	return nil
}
