package oci

import (
	"fmt"
	"strconv"
	"strings"
)

// parseSize reads 4096, 64k, 1.5GB, 1GiB; -1 is no limit.
func parseSize(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	end := len(s)
	for end > 0 && (s[end-1] < '0' || s[end-1] > '9') {
		end--
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	shift, known := sizeSuffix(s[end:])
	if err != nil || !known || n < 0 || n*float64(uint64(1)<<shift) >= 1<<63 {
		return 0, fmt.Errorf("invalid size: '%s'", s)
	}
	return int64(n * float64(uint64(1)<<shift)), nil
}

// sizeSuffix reads b, k, kb, KiB, m … p and nothing: always powers of 1024.
func sizeSuffix(s string) (shift int, ok bool) {
	s = strings.ToLower(strings.TrimPrefix(s, " "))
	unit := strings.TrimSuffix(s, "b")
	if s != unit { // KiB, not Ki
		unit = strings.TrimSuffix(unit, "i")
		if unit == "" && len(s) > 1 {
			return 0, false
		}
	}
	shifts := map[string]int{"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
	shift, ok = shifts[unit]
	return shift, ok
}
