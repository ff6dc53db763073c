package cmd

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// parseSize reads docker's sizes: 512, 64m, 1.5GiB; units are powers of 1024.
func parseSize(s string) (int64, bool) {
	num := strings.TrimRight(s, "bBiIkKmMgGtTpP ")
	unit := strings.ToLower(strings.TrimSpace(s[len(num):]))
	shift := 0
	switch strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i") {
	case "":
		if unit != "" && unit != "b" {
			return 0, false
		}
	case "k":
		shift = 10
	case "m":
		shift = 20
	case "g":
		shift = 30
	case "t":
		shift = 40
	case "p":
		shift = 50
	default:
		return 0, false
	}
	v, err := strconv.ParseFloat(num, 64)
	v *= float64(int64(1) << shift)
	if err != nil || strings.ContainsAny(num, "xXpPnN_") || !(v >= 0 && v < math.MaxInt64) {
		return 0, false
	}
	return int64(v), true
}

// humanSize is docker's: decimal units, so many significant digits.
func humanSize(n int64, digits int) string {
	v, units := float64(n), []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.*g", digits, v) + units[i]
}

// humanTime is docker's: "5 minutes", "About an hour".
func humanTime(d time.Duration) string {
	s := int(d.Seconds())
	m, h := s/60, int(d.Round(time.Hour).Hours())
	switch {
	case s < 1:
		return "Less than a second"
	case s == 1:
		return "1 second"
	case s < 60:
		return fmt.Sprintf("%d seconds", s)
	case m == 1:
		return "About a minute"
	case m < 60:
		return fmt.Sprintf("%d minutes", m)
	case h == 1:
		return "About an hour"
	case h < 48:
		return fmt.Sprintf("%d hours", h)
	case h < 24*7*2:
		return fmt.Sprintf("%d days", h/24)
	case h < 24*30*2:
		return fmt.Sprintf("%d weeks", h/24/7)
	case h < 24*365*2:
		return fmt.Sprintf("%d months", h/24/30)
	}
	return fmt.Sprintf("%d years", h/24/365)
}

// ago is a past moment seen from now.
func ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return humanTime(time.Since(t)) + " ago"
}

// parseMoment reads --since and --until: RFC 3339 with or without its later
// parts (local time without a zone), seconds since 1970, or how long ago: 10m, 1h30m.
func parseMoment(s string) (time.Time, bool) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), true
	}
	sec, frac, _ := strings.Cut(s, ".")
	if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
		nano, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
		return time.Unix(n, nano), err == nil && len(frac) <= 9
	}
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// short is the form of an id or digest that people read.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// ellipsis cuts s to n characters, the last being … if some were cut.
func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
