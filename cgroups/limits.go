package cgroups

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits of one cgroup. Zero values are no limit, and leave what is set when a
// cgroup is changed; in the pointers -1 is "max".
type Limits struct {
	MemoryMax     *int64 // bytes
	MemorySwapMax *int64 // bytes of swap alone
	MemoryLow     *int64 // bytes that are reclaimed last
	MemoryHigh    *int64 // bytes above which the group is slowed
	MemoryCheck   bool   // Update refuses a MemoryMax that is already exceeded

	CPUQuota   int64   // microseconds of processor time in each period, below 0: no limit
	CPUPeriod  uint64  // microseconds, 0: 100000
	CPUBurst   *uint64 // microseconds that may be saved up (Linux 5.14)
	CPUWeight  uint64  // 1 to 10000
	CPUIdle    *int64  // 1: runs only when nobody else wants to (Linux 5.15)
	CPUs, Mems string  // lists as "0-2,4"

	PidsMax *int64

	IO              []IOLimit
	IOWeight        uint16 // 10 to 1000, as BFQ counts
	IODeviceWeights []IOWeight

	Hugetlb []HugetlbLimit
	RDMA    []RDMALimit
	Unified map[string]string // further files by name; they win over the fields above
	Devices []DeviceRule      // for DeviceFilter; Update replaces the filter if there are any

	// Ignored tells, a sentence each, what was asked for and has no meaning on
	// cgroup v2. The caller shows them as warnings.
	Ignored []string
}

// IOLimit is a line of io.max; 0 leaves a value as it is, NoLimit removes it.
type IOLimit struct {
	Major, Minor        int64
	ReadBPS, WriteBPS   uint64 // bytes a second
	ReadIOPS, WriteIOPS uint64 // operations a second
}

// NoLimit is "max" where 0 is no value.
const NoLimit = math.MaxUint64

// IOWeight is the share of one device, 10 to 1000.
type IOWeight struct {
	Major, Minor int64
	Weight       uint16
}

// HugetlbLimit bounds huge pages of one size, named as the kernel does: "2MB".
type HugetlbLimit struct {
	PageSize string
	Bytes    uint64
}

// RDMALimit bounds what is held of one adapter.
type RDMALimit struct {
	Device           string
	Handles, Objects *uint32
}

// Write is one value for one file of a cgroup.
type Write struct {
	File, Value string
	Or          *Write // where the kernel has no such file, this one
	Optional    bool   // where the kernel has no such file, nothing
}

// needsController tells whether any value is to be written. What is known of
// devices is no matter of a controller.
func (l *Limits) needsController() bool {
	w, need, err := l.writes()
	return err != nil || len(w) > 0 || len(need) > 0
}

// builder collects writes and the controllers they need.
type builder struct {
	limits *Limits
	out    []Write
	need   []string
}

func (b *builder) add(w Write) {
	if _, ok := b.limits.Unified[w.File]; ok && !keyed(w.File) {
		return // it would only be overwritten
	}
	b.out = append(b.out, w)
	if c, _, _ := strings.Cut(w.File, "."); c != "cgroup" && !slices.Contains(b.need, c) {
		b.need = append(b.need, c)
	}
}

func (b *builder) set(file, value string) { b.add(Write{File: file, Value: value}) }

// keyed files hold a line for each device: two writes need not concern the same.
func keyed(file string) bool { return strings.HasPrefix(file, "io.") || file == "rdma.max" }

func max64(v int64) string {
	if v < 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

// writes gives the values in an order in which each is valid for a new cgroup,
// and the controllers they belong to.
func (l *Limits) writes() ([]Write, []string, error) {
	b := &builder{limits: l}
	for _, step := range []func(*Limits) error{b.memory, b.cpu, b.io, b.pages, b.unified} {
		if err := step(l); err != nil {
			return nil, nil, err
		}
	}
	return b.out, b.need, nil
}

func (b *builder) memory(l *Limits) error {
	for _, v := range []struct {
		file  string
		value *int64
	}{{"memory.max", l.MemoryMax}, {"memory.swap.max", l.MemorySwapMax}, {"memory.low", l.MemoryLow},
		{"memory.high", l.MemoryHigh}, {"pids.max", l.PidsMax}} {
		if v.value != nil {
			// Without swap accounting (CONFIG_MEMCG_SWAP, swapaccount=0) there is
			// no memory.swap.max: no swap and free use of it are then the same.
			none := v.file == "memory.swap.max" && *v.value <= 0
			b.add(Write{File: v.file, Value: max64(*v.value), Optional: none})
		}
	}
	return nil
}

func (b *builder) cpu(l *Limits) error {
	if l.CPUQuota != 0 || l.CPUPeriod != 0 {
		period := l.CPUPeriod
		if period == 0 {
			period = 100000
		}
		if period < 1000 || period > 1000000 {
			return fmt.Errorf("the cpu period is %d microseconds: it must be 1000 to 1000000", period)
		}
		quota := "max"
		if l.CPUQuota > 0 {
			if l.CPUQuota < 1000 {
				return fmt.Errorf("the cpu quota is %d microseconds a period: at least 1000 are needed", l.CPUQuota)
			}
			quota = strconv.FormatInt(l.CPUQuota, 10)
		}
		b.set("cpu.max", quota+" "+strconv.FormatUint(period, 10))
	}
	if l.CPUBurst != nil { // after the quota, which it must not exceed
		b.set("cpu.max.burst", strconv.FormatUint(*l.CPUBurst, 10))
	}
	if l.CPUIdle != nil { // before the weight, which an idle group refuses
		b.set("cpu.idle", strconv.FormatInt(*l.CPUIdle, 10))
	}
	if l.CPUWeight != 0 {
		b.set("cpu.weight", strconv.FormatUint(l.CPUWeight, 10))
	}
	if l.CPUs != "" {
		b.set("cpuset.cpus", l.CPUs)
	}
	if l.Mems != "" {
		b.set("cpuset.mems", l.Mems)
	}
	return nil
}

func (b *builder) io(l *Limits) error {
	if w := l.IOWeight; w != 0 {
		if err := b.weight("", w); err != nil {
			return err
		}
	}
	for _, d := range l.IODeviceWeights {
		if err := b.weight(fmt.Sprintf("%d:%d ", d.Major, d.Minor), d.Weight); err != nil {
			return err
		}
	}
	for _, io := range l.IO {
		b.set("io.max", io.line())
	}
	return nil
}

// weight writes for BFQ, or where that scheduler is not loaded for io.cost,
// whose scale is 1 to 10000.
func (b *builder) weight(device string, w uint16) error {
	if w < 10 || w > 1000 {
		return fmt.Errorf("the block I/O weight is %d: it must be 10 to 1000", w)
	}
	b.add(Write{File: "io.bfq.weight", Value: device + strconv.Itoa(int(w)),
		Or: &Write{File: "io.weight", Value: device + strconv.FormatUint(ioWeight(w), 10)}})
	return nil
}

// ioWeight maps 10..1000 onto 1..10000, as runc and crun do.
func ioWeight(w uint16) uint64 { return 1 + (uint64(w)-10)*9999/990 }

func (l IOLimit) line() string {
	s := fmt.Sprintf("%d:%d", l.Major, l.Minor)
	for _, v := range []struct {
		key   string
		value uint64
	}{{"rbps", l.ReadBPS}, {"wbps", l.WriteBPS}, {"riops", l.ReadIOPS}, {"wiops", l.WriteIOPS}} {
		switch v.value {
		case 0:
		case NoLimit:
			s += " " + v.key + "=max"
		default:
			s += fmt.Sprintf(" %s=%d", v.key, v.value)
		}
	}
	return s
}

func (b *builder) pages(l *Limits) error {
	for _, h := range l.Hugetlb {
		if h.PageSize == "" || strings.ContainsAny(h.PageSize, "/.") {
			return fmt.Errorf("%q is not the size of a huge page", h.PageSize)
		}
		v := strconv.FormatUint(h.Bytes, 10)
		b.set("hugetlb."+h.PageSize+".max", v)
		// Linux 5.7: memory that is reserved counts, not only what is touched.
		b.add(Write{File: "hugetlb." + h.PageSize + ".rsvd.max", Value: v, Optional: true})
	}
	for _, r := range l.RDMA {
		if r.Device == "" || strings.ContainsAny(r.Device, " \n") {
			return fmt.Errorf("%q is not the name of an RDMA adapter", r.Device)
		}
		v := r.Device
		if r.Handles != nil {
			v += fmt.Sprintf(" hca_handle=%d", *r.Handles)
		}
		if r.Objects != nil {
			v += fmt.Sprintf(" hca_object=%d", *r.Objects)
		}
		b.set("rdma.max", v)
	}
	return nil
}

// unified comes last: who names a file means that file.
func (b *builder) unified(l *Limits) error {
	for _, k := range slices.SortedFunc(maps.Keys(l.Unified), unifiedOrder) {
		if strings.Contains(k, "/") {
			return fmt.Errorf("unified resource %q must be a file name (no slashes)", k)
		}
		if c, p, _ := strings.Cut(k, "."); c == "" || p == "" {
			return fmt.Errorf("unified resource %q must be in the form CONTROLLER.PARAMETER", k)
		}
		w := Write{File: k}
		for _, line := range strings.Split(strings.TrimSuffix(l.Unified[k], "\n"), "\n") {
			w.Value = line // the kernel takes one line a write
			b.out = append(b.out, w)
		}
		if c, _, _ := strings.Cut(k, "."); c != "cgroup" && !slices.Contains(b.need, c) {
			b.need = append(b.need, c)
		}
	}
	return nil
}

// unifiedOrder is by name, which puts cpu.idle before cpu.weight and cpu.max
// before cpu.max.burst, as the kernel wants them.
func unifiedOrder(a, b string) int { return strings.Compare(a, b) }
