package cgroups

// OCIStats is Stats in the form of the "data" of runc events --stats, field by
// field, so that its readers (containerd's shim, kubelet's) find theirs. What
// only cgroup v1 counts is there as 0, as runc prints it.
type OCIStats struct {
	CPU               OCICPU                `json:"cpu"`
	CPUSet            OCICPUSet             `json:"cpuset"`
	Memory            OCIMemory             `json:"memory"`
	Pids              OCIPids               `json:"pids"`
	Blkio             OCIBlkio              `json:"blkio"`
	Hugetlb           map[string]OCIHugetlb `json:"hugetlb"`
	IntelRdt          any                   `json:"intel_rdt"` // of package resctrl; else an empty object
	NetworkInterfaces []OCINetwork          `json:"network_interfaces"`
}

// OCICPU counts nanoseconds.
type OCICPU struct {
	Usage      OCICPUUsage   `json:"usage,omitzero"`
	Throttling OCIThrottling `json:"throttling,omitzero"`
	PSI        *Pressure     `json:"psi,omitempty"`
}

// OCICPUUsage counts nanoseconds; the times of each processor are of cgroup v1.
type OCICPUUsage struct {
	Total        uint64   `json:"total,omitempty"`
	Percpu       []uint64 `json:"percpu,omitempty"`
	PercpuKernel []uint64 `json:"percpu_kernel,omitempty"`
	PercpuUser   []uint64 `json:"percpu_user,omitempty"`
	Kernel       uint64   `json:"kernel"`
	User         uint64   `json:"user"`
}

// OCIThrottling tells of periods in which the quota was used up.
type OCIThrottling struct {
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

// OCICPUSet is of cgroup v1.
type OCICPUSet struct {
	CPUs                  []uint16 `json:"cpus,omitempty"`
	CPUExclusive          uint64   `json:"cpu_exclusive"`
	Mems                  []uint16 `json:"mems,omitempty"`
	MemHardwall           uint64   `json:"mem_hardwall"`
	MemExclusive          uint64   `json:"mem_exclusive"`
	MemoryMigrate         uint64   `json:"memory_migrate"`
	MemorySpreadPage      uint64   `json:"memory_spread_page"`
	MemorySpreadSlab      uint64   `json:"memory_spread_slab"`
	MemoryPressure        uint64   `json:"memory_pressure"`
	SchedLoadBalance      uint64   `json:"sched_load_balance"`
	SchedRelaxDomainLevel int64    `json:"sched_relax_domain_level"`
}

// OCIMemory counts bytes; Swap is memory and swap together.
type OCIMemory struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     OCIMemoryEntry    `json:"usage,omitzero"`
	Swap      OCIMemoryEntry    `json:"swap,omitzero"`
	Kernel    OCIMemoryEntry    `json:"kernel,omitzero"`
	KernelTCP OCIMemoryEntry    `json:"kernelTCP,omitzero"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *Pressure         `json:"psi,omitempty"`
}

// OCIMemoryEntry has the greatest number of 64 bits for no limit.
type OCIMemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// OCIPids has 0 for no limit.
type OCIPids struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// OCIBlkio has the tables of cgroup v1 that v2 can fill.
type OCIBlkio struct {
	IoServiceBytesRecursive []OCIBlkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	IoServicedRecursive     []OCIBlkioEntry `json:"ioServicedRecursive,omitempty"`
	PSI                     *Pressure       `json:"psi,omitempty"`
}

// OCIBlkioEntry is one operation ("Read", "Write") on one device.
type OCIBlkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// OCIHugetlb counts bytes and failures.
type OCIHugetlb struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// OCINetwork is one interface; runc names its fields so.
type OCINetwork struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// OCI gives the statistics runc's form.
func (s *Stats) OCI() *OCIStats {
	o := &OCIStats{Hugetlb: map[string]OCIHugetlb{}, IntelRdt: struct{}{}}
	const usec = 1000 // nanoseconds
	o.CPU = OCICPU{
		Usage:      OCICPUUsage{Total: s.CPU["usage_usec"] * usec, Kernel: s.CPU["system_usec"] * usec, User: s.CPU["user_usec"] * usec},
		Throttling: OCIThrottling{s.CPU["nr_periods"], s.CPU["nr_throttled"], s.CPU["throttled_usec"] * usec},
		PSI:        s.CPUPressure,
	}
	o.Memory = s.ociMemory()
	o.Pids = OCIPids{s.Pids, s.PidsMax}
	for _, d := range s.IO {
		for _, v := range []struct {
			key, op string
			table   *[]OCIBlkioEntry
		}{
			{"rbytes", "Read", &o.Blkio.IoServiceBytesRecursive}, {"wbytes", "Write", &o.Blkio.IoServiceBytesRecursive},
			{"rios", "Read", &o.Blkio.IoServicedRecursive}, {"wios", "Write", &o.Blkio.IoServicedRecursive},
		} {
			if n, ok := d.Values[v.key]; ok {
				*v.table = append(*v.table, OCIBlkioEntry{d.Major, d.Minor, v.op, n})
			}
		}
	}
	o.Blkio.PSI = s.IOPressure
	for size, h := range s.Hugetlb {
		o.Hugetlb[size] = OCIHugetlb{Usage: h.Usage, Failcnt: h.Failed}
	}
	return o
}

func (s *Stats) ociMemory() OCIMemory {
	m := OCIMemory{PSI: s.MemoryPressure}
	if len(s.MemoryStat) == 0 {
		return m
	}
	m.Cache, m.Raw = s.MemoryStat["file"], s.MemoryStat
	m.Usage = OCIMemoryEntry{Limit: s.MemoryMax, Usage: s.Memory, Max: s.MemoryPeak}
	if m.Usage.Limit == 0 {
		m.Usage.Limit = NoLimit
	}
	// As in cgroup v1 memory and swap together.
	m.Swap = OCIMemoryEntry{Limit: NoLimit, Usage: s.Memory + s.Swap}
	if s.SwapMax != NoLimit && m.Usage.Limit != NoLimit {
		m.Swap.Limit = s.SwapMax + m.Usage.Limit
	}
	return m
}
