package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stats is what a cgroup used. What its controllers, or the kernel, do not
// count is left out: the maps are empty, the pointers nil, the numbers 0.
type Stats struct {
	CPU         map[string]uint64 // cpu.stat, microseconds
	CPUPressure *Pressure

	Memory         uint64            // bytes in use
	MemoryMax      uint64            // bytes, 0: no limit
	MemoryPeak     uint64            // bytes (Linux 5.19)
	Swap           uint64            // bytes
	SwapMax        uint64            // bytes of swap alone, NoLimit: no limit
	SwapPeak       uint64            // bytes (Linux 6.5)
	MemoryStat     map[string]uint64 // memory.stat, bytes and events
	MemoryEvents   map[string]uint64 // memory.events, how often
	MemoryPressure *Pressure

	Pids, PidsMax uint64 // PidsMax 0: no limit

	IO              []DeviceIO
	IORead          uint64 // bytes of all devices
	IOWritten       uint64
	IOPressure      *Pressure
	Hugetlb         map[string]Hugetlb // by size, as "2MB"
	RDMA            map[string]map[string]uint64
	RDMAMax         map[string]map[string]uint64
	FreezeRequested bool
}

// Pressure is how long processes waited for a resource: some of them, or all
// at once (Documentation/accounting/psi.rst, Linux 4.20).
type Pressure struct {
	Some Stall `json:"some"`
	Full Stall `json:"full"`
}

// Stall is a line of a pressure file: percent of the last 10, 60 and 300
// seconds, and microseconds in all.
type Stall struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// DeviceIO is a line of io.stat, by its keys: rbytes, wbytes, rios, wios, dbytes,
// dios, and cost.* where io.cost is used.
type DeviceIO struct {
	Major, Minor uint64
	Values       map[string]uint64
}

// Hugetlb is the use of huge pages of one size: bytes, and how often the limit
// was in the way.
type Hugetlb struct{ Usage, Failed uint64 }

// Read collects the statistics of a cgroup.
func Read(dir string) (*Stats, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	r := reader{dir: dir}
	s := &Stats{CPU: flat(r.file("cpu.stat")), CPUPressure: r.pressure("cpu.pressure"),
		Memory: parse(r.file("memory.current")), MemoryMax: parse(r.file("memory.max")), MemoryPeak: parse(r.file("memory.peak")),
		Swap: parse(r.file("memory.swap.current")), SwapMax: limit(r.file("memory.swap.max")), SwapPeak: parse(r.file("memory.swap.peak")),
		MemoryStat: flat(r.file("memory.stat")), MemoryEvents: flat(r.file("memory.events")), MemoryPressure: r.pressure("memory.pressure"),
		Pids: parse(r.file("pids.current")), PidsMax: parse(r.file("pids.max")),
		IOPressure: r.pressure("io.pressure"), Hugetlb: r.hugetlb(),
		RDMA: nested(r.file("rdma.current")), RDMAMax: nested(r.file("rdma.max")),
		FreezeRequested: r.file("cgroup.freeze") == "1",
	}
	if s.Pids == 0 { // without the controller: what is there to be counted
		if pids, err := Procs(dir); err == nil {
			s.Pids = uint64(len(pids))
		}
	}
	s.io(r.file("io.stat"))
	return s, r.err
}

// reader reads the files of one cgroup, each whole, and keeps the first error
// that is not a missing file.
type reader struct {
	dir string
	err error
}

func (r *reader) file(name string) string {
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	// Missing: no such controller. EOPNOTSUPP: kernels that are built with
	// pressure files and started without psi=1.
	if err != nil && !gone(err) && !errors.Is(err, unix.EOPNOTSUPP) && r.err == nil {
		r.err = err
	}
	return strings.TrimSpace(string(b))
}

func (s *Stats) io(stat string) {
	for _, line := range strings.Split(stat, "\n") {
		device, values, ok := strings.Cut(line, " ")
		major, minor, numbers := strings.Cut(device, ":")
		if !ok || !numbers {
			continue
		}
		d := DeviceIO{parse(major), parse(minor), pairs(values)}
		s.IO = append(s.IO, d)
		s.IORead += d.Values["rbytes"]
		s.IOWritten += d.Values["wbytes"]
	}
}

// nested reads a nested keyed file: lines of "key k=v k=v".
func nested(s string) map[string]map[string]uint64 {
	var m map[string]map[string]uint64
	for _, line := range strings.Split(s, "\n") {
		if k, v, ok := strings.Cut(line, " "); ok {
			if m == nil {
				m = map[string]map[string]uint64{}
			}
			m[k] = pairs(v)
		}
	}
	return m
}

func pairs(s string) map[string]uint64 {
	m := map[string]uint64{}
	for _, f := range strings.Fields(s) {
		if k, v, ok := strings.Cut(f, "="); ok {
			m[k] = limit(v)
		}
	}
	return m
}

func (r *reader) pressure(name string) *Pressure {
	s := r.file(name)
	if s == "" {
		return nil
	}
	p := &Pressure{}
	for _, line := range strings.Split(s, "\n") {
		kind, values, _ := strings.Cut(line, " ")
		switch kind {
		case "some":
			p.Some = stall(values)
		case "full":
			p.Full = stall(values)
		}
	}
	return p
}

func stall(s string) (t Stall) {
	for _, f := range strings.Fields(s) {
		k, v, _ := strings.Cut(f, "=")
		number, _ := strconv.ParseFloat(v, 64)
		switch k {
		case "avg10":
			t.Avg10 = number
		case "avg60":
			t.Avg60 = number
		case "avg300":
			t.Avg300 = number
		case "total":
			t.Total = parse(v)
		}
	}
	return t
}

// hugetlb asks for the sizes that the kernel has; what is reserved counts,
// where it is counted (Linux 5.7).
func (r *reader) hugetlb() map[string]Hugetlb {
	var m map[string]Hugetlb
	for _, size := range pageSizes() {
		name := filepath.Join(r.dir, "hugetlb."+size)
		b, err := os.ReadFile(name + ".rsvd.current")
		if errors.Is(err, fs.ErrNotExist) {
			b, err = os.ReadFile(name + ".current")
		}
		if err != nil {
			continue
		}
		if m == nil {
			m = map[string]Hugetlb{}
		}
		m[size] = Hugetlb{parse(strings.TrimSpace(string(b))), flat(r.file("hugetlb." + size + ".events"))["max"]}
	}
	return m
}

// pageSizes are those of huge pages in the words of the cgroup files.
func pageSizes() []string {
	entries, _ := os.ReadDir("/sys/kernel/mm/hugepages")
	var sizes []string
	for _, e := range entries {
		kb, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), "kB"), "hugepages-")
		n, err := strconv.ParseUint(kb, 10, 64)
		if ok && err == nil {
			sizes = append(sizes, pageSize(n))
		}
	}
	slices.Sort(sizes)
	return sizes
}

func pageSize(kb uint64) string {
	switch {
	case kb >= 1<<20:
		return strconv.FormatUint(kb>>20, 10) + "GB"
	case kb >= 1<<10:
		return strconv.FormatUint(kb>>10, 10) + "MB"
	}
	return strconv.FormatUint(kb, 10) + "KB"
}
