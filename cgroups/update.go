package cgroups

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes the limits of a live cgroup. What l does not speak of stays:
// of cpu.max also the half that is not given. Values are written in an order in
// which each is valid on the way and nothing is killed that fits in the end. If
// one is refused, those before it have been set.
func Update(dir string, l Limits) error {
	writes, err := l.changes(dir)
	if err != nil {
		return err
	}
	return l.write(dir, writes)
}

// changes are the writes of an update, in no order yet.
func (l *Limits) changes(dir string) ([]Write, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("update the cgroup: %w", err)
	}
	if err := l.fits(dir); err != nil {
		return nil, err
	}
	l.keep(dir)
	writes, _, err := l.writes()
	return writes, err
}

func (l *Limits) write(dir string, writes []Write) error {
	for _, w := range inOrder(dir, writes) {
		if err := w.apply(dir); err != nil {
			return err
		}
	}
	if len(l.Devices) == 0 {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return DeviceFilter(f, l.Devices)
}

// fits answers memory.checkBeforeUpdate. Use may grow until the limit is set:
// this keeps mistakes from killing, no more.
func (l *Limits) fits(dir string) error {
	if !l.MemoryCheck || l.MemoryMax == nil || *l.MemoryMax < 0 {
		return nil
	}
	used := parse(flatValue(dir, "memory.current"))
	if l.MemorySwapMax != nil && *l.MemorySwapMax >= 0 {
		if both := *l.MemoryMax + *l.MemorySwapMax; uint64(both) <= used {
			return fmt.Errorf("rejecting memory+swap limit %d <= usage %d", both, used)
		}
	}
	if uint64(*l.MemoryMax) <= used {
		return fmt.Errorf("rejecting memory limit %d <= usage %d", *l.MemoryMax, used)
	}
	return nil
}

// keep fills in the other half of cpu.max, which is written as one.
func (l *Limits) keep(dir string) {
	if (l.CPUQuota == 0) == (l.CPUPeriod == 0) {
		return
	}
	quota, period, ok := strings.Cut(flatValue(dir, "cpu.max"), " ")
	if !ok {
		return // no controller: the write will tell
	}
	if l.CPUPeriod == 0 {
		l.CPUPeriod = parse(period)
	} else if quota != "max" {
		l.CPUQuota = int64(parse(quota))
	}
}

// inOrder sorts the writes for a cgroup that has processes: memory limits that
// grow come before those that shrink, so that no moment has less than both the
// old and the new state; and a burst that fits into the old quota comes before
// the new quota, for then it may not fit into the old one (the kernel refuses
// either write that leaves burst > quota).
func inOrder(dir string, writes []Write) []Write {
	out := slices.Clone(writes)
	slices.SortStableFunc(out, func(a, b Write) int { return a.rank(dir) - b.rank(dir) })
	return out
}

func (w *Write) rank(dir string) int {
	switch w.File {
	case "memory.max", "memory.swap.max", "memory.high":
		if limit(w.Value) >= limit(flatValue(dir, w.File)) {
			return 0
		}
		return 1
	case "cpu.max.burst":
		quota, _, _ := strings.Cut(flatValue(dir, "cpu.max"), " ")
		if limit(w.Value) <= limit(quota) {
			return 1
		}
		return 3
	}
	return 2
}

// limit reads a number or max.
func limit(s string) uint64 {
	if strings.TrimSpace(s) == "max" {
		return NoLimit
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	return n
}

// Changes are the limits that an update of a container asks for, and the
// resources it has then, to be stored. The two halves of memory+swap need not
// be given both: the missing one is that of old.
func Changes(old, update *specs.LinuxResources) (Limits, *specs.LinuxResources, error) {
	if update == nil {
		update = &specs.LinuxResources{}
	}
	merged := merge(old, update)
	all, err := FromResources(merged)
	if err != nil {
		return Limits{}, nil, err
	}
	u := *update
	if m := update.Memory; m != nil { // converted with what it lacks
		part := *m
		part.Limit, part.Swap = nil, nil
		u.Memory = &part
	}
	l, err := FromResources(&u)
	if err != nil {
		return Limits{}, nil, err
	}
	if m := update.Memory; m != nil && (set(m.Limit) != nil || set(m.Swap) != nil) {
		l.MemorySwapMax = all.MemorySwapMax
		if set(m.Limit) != nil {
			l.MemoryMax = all.MemoryMax
		}
	}
	if len(update.Devices) == 0 {
		l.Devices = nil
	}
	return l, merged, nil
}

// over gives the newer value if there is one.
func over[T any](old, new *T) *T {
	if new != nil {
		return new
	}
	return old
}

// merge lays an update over what was set.
func merge(old, u *specs.LinuxResources) *specs.LinuxResources {
	r := specs.LinuxResources{}
	if old != nil {
		r = *old
	}
	if u.Memory != nil {
		m := value(r.Memory)
		m.Limit, m.Reservation = over(m.Limit, u.Memory.Limit), over(m.Reservation, u.Memory.Reservation)
		if l := u.Memory.Limit; l != nil && *l == -1 && u.Memory.Swap == nil {
			m.Swap = nil // no limit for memory is none for swap
		}
		m.Swap = over(m.Swap, u.Memory.Swap)
		r.Memory = &m
	}
	if u.CPU != nil {
		c := value(r.CPU)
		c.Shares, c.Quota, c.Period = over(c.Shares, u.CPU.Shares), over(c.Quota, u.CPU.Quota), over(c.Period, u.CPU.Period)
		c.Burst, c.Idle = over(c.Burst, u.CPU.Burst), over(c.Idle, u.CPU.Idle)
		if u.CPU.Cpus != "" {
			c.Cpus = u.CPU.Cpus
		}
		if u.CPU.Mems != "" {
			c.Mems = u.CPU.Mems
		}
		r.CPU = &c
	}
	if u.Pids != nil {
		r.Pids = &specs.LinuxPids{Limit: over(value(r.Pids).Limit, u.Pids.Limit)}
	}
	if u.BlockIO != nil {
		r.BlockIO = mergeBlockIO(value(r.BlockIO), u.BlockIO)
	}
	if len(u.HugepageLimits) > 0 {
		r.HugepageLimits = mergeBy(r.HugepageLimits, u.HugepageLimits, func(h specs.LinuxHugepageLimit) string { return h.Pagesize })
	}
	r.Rdma = mergeMap(r.Rdma, u.Rdma)
	r.Unified = mergeMap(r.Unified, u.Unified)
	if len(u.Devices) > 0 {
		r.Devices = u.Devices
	}
	return &r
}

func mergeBlockIO(b specs.LinuxBlockIO, u *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	b.Weight, b.LeafWeight = over(b.Weight, u.Weight), over(b.LeafWeight, u.LeafWeight)
	b.WeightDevice = mergeBy(b.WeightDevice, u.WeightDevice, func(d specs.LinuxWeightDevice) [2]int64 { return [2]int64{d.Major, d.Minor} })
	key := func(d specs.LinuxThrottleDevice) [2]int64 { return [2]int64{d.Major, d.Minor} }
	b.ThrottleReadBpsDevice = mergeBy(b.ThrottleReadBpsDevice, u.ThrottleReadBpsDevice, key)
	b.ThrottleWriteBpsDevice = mergeBy(b.ThrottleWriteBpsDevice, u.ThrottleWriteBpsDevice, key)
	b.ThrottleReadIOPSDevice = mergeBy(b.ThrottleReadIOPSDevice, u.ThrottleReadIOPSDevice, key)
	b.ThrottleWriteIOPSDevice = mergeBy(b.ThrottleWriteIOPSDevice, u.ThrottleWriteIOPSDevice, key)
	return &b
}

// mergeBy replaces elements with the same key and appends the others.
func mergeBy[T any, K comparable](old, update []T, key func(T) K) []T {
	out := slices.Clone(old)
	for _, u := range update {
		out = slices.DeleteFunc(out, func(o T) bool { return key(o) == key(u) })
		out = append(out, u)
	}
	return out
}

func mergeMap[T any](old, update map[string]T) map[string]T {
	if len(update) == 0 {
		return old
	}
	out := maps.Clone(old)
	if out == nil {
		out = map[string]T{}
	}
	maps.Copy(out, update)
	return out
}
