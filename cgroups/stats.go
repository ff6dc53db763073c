package cgroups

import (
	"os"
	"path/filepath"
	"strings"
)

// Stats is what a cgroup used. Files of controllers it does not have are
// left out: the maps are empty, the numbers 0.
type Stats struct {
	CPU           map[string]uint64 // cpu.stat, microseconds
	Memory        uint64            // bytes in use
	MemoryMax     uint64            // bytes, 0: no limit
	MemoryStat    map[string]uint64 // memory.stat, bytes
	Pids, PidsMax uint64            // PidsMax 0: no limit
	IORead        uint64            // bytes
	IOWritten     uint64
}

// Read collects the statistics of a cgroup.
func Read(dir string) (*Stats, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	file := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name)) // missing: no such controller
		return strings.TrimSpace(string(b))
	}
	s := &Stats{
		CPU: flat(file("cpu.stat")), MemoryStat: flat(file("memory.stat")),
		Memory: parse(file("memory.current")), MemoryMax: parse(file("memory.max")),
		Pids: parse(file("pids.current")), PidsMax: parse(file("pids.max")),
	}
	for _, line := range strings.Split(file("io.stat"), "\n") {
		for _, f := range strings.Fields(line) {
			if v, ok := strings.CutPrefix(f, "rbytes="); ok {
				s.IORead += parse(v)
			} else if v, ok := strings.CutPrefix(f, "wbytes="); ok {
				s.IOWritten += parse(v)
			}
		}
	}
	return s, nil
}
