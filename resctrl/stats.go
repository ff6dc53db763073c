package resctrl

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Stats is the "intel_rdt" of runc events --stats, field by field.
type Stats struct {
	Cache              *CacheInfo     `json:"l3_cache_info,omitempty"`
	CacheSchemaRoot    string         `json:"l3_cache_schema_root,omitempty"`
	CacheSchema        string         `json:"l3_cache_schema,omitempty"`
	Bandwidth          *BandwidthInfo `json:"mem_bw_info,omitempty"`
	BandwidthSchemaTop string         `json:"mem_bw_schema_root,omitempty"`
	BandwidthSchema    string         `json:"mem_bw_schema,omitempty"`
	Schemata           []string       `json:"schemata,omitempty"`
	Traffic            *[]Traffic     `json:"mbm_stats,omitempty"`
	Occupancy          *[]Occupancy   `json:"cmt_stats,omitempty"`
}

// CacheInfo is what info/L3 says of the hardware.
type CacheInfo struct {
	Mask    string `json:"cbm_mask,omitempty"`
	MinBits uint64 `json:"min_cbm_bits,omitempty"`
	Classes uint64 `json:"num_closids,omitempty"`
}

// BandwidthInfo is what info/MB says of the hardware.
type BandwidthInfo struct {
	Granularity uint64 `json:"bandwidth_gran,omitempty"`
	Linear      uint64 `json:"delay_linear,omitempty"`
	Min         uint64 `json:"min_bandwidth,omitempty"`
	Classes     uint64 `json:"num_closids,omitempty"`
}

// Traffic counts the bytes between one L3 cache and memory.
type Traffic struct {
	Total uint64 `json:"mbm_total_bytes"`
	Local uint64 `json:"mbm_local_bytes"`
}

// Occupancy is how many bytes of one L3 cache are in use.
type Occupancy struct {
	Bytes uint64 `json:"llc_occupancy"`
}

// Stats reads what the host has to say of a group. Without counters of the
// container's own they are those of all who share its class.
func (h *Host) Stats(g Group) (*Stats, error) {
	r := &reader{}
	s := &Stats{Schemata: r.lines(g.Dir, "schemata")}
	top := r.lines(h.Root, "schemata")
	if h.Cache() {
		dir := filepath.Join(h.Root, "info", "L3")
		s.Cache = &CacheInfo{r.text(dir, "cbm_mask"), r.number(dir, "min_cbm_bits"), r.number(dir, "num_closids")}
		s.CacheSchemaRoot, s.CacheSchema = with("L3", top), with("L3", s.Schemata)
	}
	if h.Bandwidth() {
		dir := filepath.Join(h.Root, "info", "MB")
		s.Bandwidth = &BandwidthInfo{r.number(dir, "bandwidth_gran"), r.number(dir, "delay_linear"), r.number(dir, "min_bandwidth"), r.number(dir, "num_closids")}
		s.BandwidthSchemaTop, s.BandwidthSchema = with("MB", top), with("MB", s.Schemata)
	}
	r.counters(h, g, s)
	return s, r.err
}

// with is the last schema of a resource: there is one, or with CDP two of L3
// (L3DATA, L3CODE).
func with(resource string, schemata []string) (found string) {
	for _, s := range schemata {
		if strings.Contains(s, resource) {
			found = strings.TrimSpace(s)
		}
	}
	return found
}

// reader reads files until the first error.
type reader struct{ err error }

func (r *reader) text(dir, file string) string {
	if r.err != nil {
		return ""
	}
	var b []byte
	b, r.err = os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b))
}

func (r *reader) lines(dir, file string) []string { return strings.Split(r.text(dir, file), "\n") }

func (r *reader) number(dir, file string) uint64 {
	text := r.text(dir, file)
	if r.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		r.err = fmt.Errorf("read %s: %w", filepath.Join(dir, file), err)
	}
	return n
}

// counters reads those of each L3 cache, a directory of mon_data.
func (r *reader) counters(h *Host, g Group, s *Stats) {
	has := h.counters()
	traffic := has["mbm_total_bytes"] || has["mbm_local_bytes"]
	if r.err != nil || !traffic && !has["llc_occupancy"] {
		return
	}
	of := g.Monitor
	if of == "" {
		of = g.Dir
	}
	entries, err := os.ReadDir(filepath.Join(of, "mon_data"))
	if err != nil {
		r.err = err
		return
	}
	count := func(dir, name string) uint64 {
		if !has[name] {
			return 0
		}
		return r.number(dir, name)
	}
	var bytes []Traffic
	var occupancy []Occupancy
	for _, e := range entries {
		dir := filepath.Join(of, "mon_data", e.Name())
		switch {
		case !e.IsDir():
			continue
		case traffic:
			bytes = append(bytes, Traffic{count(dir, "mbm_total_bytes"), count(dir, "mbm_local_bytes")})
		}
		if has["llc_occupancy"] {
			occupancy = append(occupancy, Occupancy{count(dir, "llc_occupancy")})
		}
	}
	if traffic {
		s.Traffic = &bytes
	}
	if has["llc_occupancy"] {
		s.Occupancy = &occupancy
	}
}
