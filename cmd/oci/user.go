package oci

import (
	"os"
	"strconv"
	"strings"
)

// userName finds the name of a user in /etc/passwd, "#" and the id if there is
// none. Package os/user would do the same for more start-up.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	b, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return "#" + id
	}
	return nameIn(string(b), id)
}

// nameIn reads passwd(5).
func nameIn(passwd, id string) string {
	for line := range strings.SplitSeq(passwd, "\n") {
		f := strings.Split(line, ":")
		if len(f) > 2 && f[2] == id && f[0] != "" {
			return f[0]
		}
	}
	return "#" + id
}
