// Package mountinfo reads the kernel's lists of mounts, /proc/PID/mountinfo
// (proc_pid_mountinfo(5)).
package mountinfo

import (
	"iter"
	"strconv"
	"strings"
)

// Mount is one line of the list.
type Mount struct {
	ID      int
	Point   string // without escapes
	Type    string // of the file system
	Options string // of the file system, not of the mount
}

// All are the mounts of a list, in its order. Lines that are not understood are
// left out.
func All(list string) iter.Seq[Mount] {
	return func(yield func(Mount) bool) {
		for line := range strings.Lines(list) {
			left, right, ok := strings.Cut(line, " - ")
			f, r := strings.Fields(left), strings.Fields(right)
			if !ok || len(f) < 5 || len(r) < 3 {
				continue
			}
			id, err := strconv.Atoi(f[0])
			if err == nil && !yield(Mount{id, unescape(f[4]), r[0], r[2]}) {
				return
			}
		}
	}
}

// unescape undoes the octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
