package cgroups

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// FromResources turns the resources of an OCI runtime configuration, which
// speak the language of cgroup v1, into those of cgroup v2 as runc 1.4 and crun
// do. What has no counterpart there is told in Limits.Ignored. A nil r gives
// only the devices that every container may use.
func FromResources(r *specs.LinuxResources) (Limits, error) {
	var l Limits
	if r == nil {
		l.Devices = AllowedDevices()
		return l, nil
	}
	for _, convert := range []func(*Limits, *specs.LinuxResources) error{fromMemory, fromCPU, fromBlockIO, fromDevices} {
		if err := convert(&l, r); err != nil {
			return Limits{}, err
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		l.PidsMax = pidsMax(*r.Pids.Limit)
	}
	for _, h := range r.HugepageLimits {
		l.Hugetlb = append(l.Hugetlb, HugetlbLimit{h.Pagesize, h.Limit})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Rdma)) {
		l.RDMA = append(l.RDMA, RDMALimit{name, r.Rdma[name].HcaHandles, r.Rdma[name].HcaObjects})
	}
	if n := r.Network; n != nil {
		l.ignore(n.ClassID != nil && *n.ClassID != 0, "network.classID", "mark packets by the cgroup's path with nftables (socket cgroupv2)")
		l.ignore(len(n.Priorities) > 0, "network.priorities", "use the SO_PRIORITY of the socket or tc(8)")
	}
	l.Unified = maps.Clone(r.Unified)
	l.idleOrWeight()
	if _, _, err := l.writes(); err != nil {
		return Limits{}, err
	}
	return l, nil
}

// idleOrWeight: an idle group has no weight and refuses one.
func (l *Limits) idleOrWeight() {
	idle := l.CPUIdle != nil && *l.CPUIdle == 1
	if v, ok := l.Unified["cpu.idle"]; ok {
		idle = strings.TrimSpace(v) == "1"
	}
	_, weight := l.Unified["cpu.weight"]
	if !idle || l.CPUWeight == 0 && !weight {
		return
	}
	l.CPUWeight = 0
	delete(l.Unified, "cpu.weight")
	l.Ignored = append(l.Ignored, "unable to apply both cpu.idle and cpu.weight: an idle group has no weight, which is ignored")
}

func (l *Limits) ignore(asked bool, field, instead string) {
	if asked {
		l.Ignored = append(l.Ignored, fmt.Sprintf("resources.%s is of cgroup v1 and ignored: %s", field, instead))
	}
}

// pidsMax: 0 becomes 1, since systemd knows no TasksMax=0 and the two drivers
// must not differ; no further process can be made either way.
func pidsMax(limit int64) *int64 {
	limit = max(limit, -1)
	if limit == 0 {
		limit = 1
	}
	return &limit
}

// set gives a number of the specification: absent and 0 are both no request.
func set(v *int64) *int64 {
	if v == nil || *v == 0 {
		return nil
	}
	n := *v
	return &n
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func fromMemory(l *Limits, r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	for name, v := range map[string]*int64{"limit": m.Limit, "swap": m.Swap, "reservation": m.Reservation} {
		if v != nil && *v < -1 {
			return fmt.Errorf("memory.%s is %d: below -1, which is no limit, nothing is valid", name, *v)
		}
	}
	swap, err := swapMax(value(m.Swap), value(m.Limit))
	if err != nil {
		return err
	}
	l.MemoryMax, l.MemorySwapMax, l.MemoryLow = set(m.Limit), swap, set(m.Reservation)
	l.MemoryCheck = value(m.CheckBeforeUpdate)
	//lint:ignore SA1019 deprecated is not absent
	l.ignore(value(m.Kernel) > 0, "memory.kernel", "kernel memory is part of memory.limit")
	l.ignore(value(m.KernelTCP) > 0, "memory.kernelTCP", "socket buffers are part of memory.limit")
	l.ignore(m.Swappiness != nil, "memory.swappiness", "limit memory.swap")
	l.ignore(value(m.DisableOOMKiller), "memory.disableOOMKiller", "set a memory.high in unified, or oomScoreAdj")
	return nil
}

// swapMax takes the memory from memory+swap of cgroup v1, 0 being no request;
// nil is no request, too.
func swapMax(both, memory int64) (*int64, error) {
	swap := both - memory
	switch {
	case both == 0 && memory == -1: // as v1: no limit for memory is none for swap
		swap = -1
	case both == 0:
		return nil, nil
	case both == -1 || memory == -1:
		swap = both
	case memory == 0:
		return nil, errors.New("unable to set swap limit without memory limit")
	case both < memory:
		return nil, errors.New("memory+swap limit should be >= memory limit")
	}
	return &swap, nil
}

// CPUWeight turns cpu.shares of cgroup v1 (2 to 262144, usual 1024) into
// cpu.weight (1 to 10000, usual 100) such that the ends and the usual values
// meet: the quadratic exponent that runc has had since 1.3.2 and 1.4
// (opencontainers/cgroups 0.0.3) and crun since 1.23. The older straight line
// gave the usual 1024 a weight of 39. 0 stays 0, no request.
func CPUWeight(shares uint64) uint64 {
	switch {
	case shares == 0:
		return 0
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	log := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (log*log+125*log)/612-7.0/34)))
}

func fromCPU(l *Limits, r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	l.CPUWeight = CPUWeight(value(c.Shares))
	l.CPUQuota, l.CPUPeriod = value(c.Quota), value(c.Period)
	l.CPUBurst, l.CPUIdle = c.Burst, c.Idle
	l.CPUs, l.Mems = c.Cpus, c.Mems
	rt := value(c.RealtimeRuntime) != 0 || value(c.RealtimePeriod) != 0
	l.ignore(rt, "cpu.realtimeRuntime and realtimePeriod", "cgroup v2 does not divide real-time")
	return nil
}

func fromBlockIO(l *Limits, r *specs.LinuxResources) error {
	b := r.BlockIO
	if b == nil {
		return nil
	}
	l.IOWeight = value(b.Weight)
	leaf := value(b.LeafWeight) != 0
	for _, d := range b.WeightDevice {
		leaf = leaf || value(d.LeafWeight) != 0
		if w := value(d.Weight); w != 0 {
			l.IODeviceWeights = append(l.IODeviceWeights, IOWeight{d.Major, d.Minor, w})
		}
	}
	l.ignore(leaf, "blockIO.leafWeight", "in cgroup v2 only leaves hold processes")
	for _, t := range []struct {
		list  []specs.LinuxThrottleDevice
		field func(*IOLimit) *uint64
	}{
		{b.ThrottleReadBpsDevice, func(d *IOLimit) *uint64 { return &d.ReadBPS }},
		{b.ThrottleWriteBpsDevice, func(d *IOLimit) *uint64 { return &d.WriteBPS }},
		{b.ThrottleReadIOPSDevice, func(d *IOLimit) *uint64 { return &d.ReadIOPS }},
		{b.ThrottleWriteIOPSDevice, func(d *IOLimit) *uint64 { return &d.WriteIOPS }},
	} {
		for _, d := range t.list {
			rate := d.Rate
			if rate == 0 { // in cgroup v1 this removed the limit; io.max refuses it
				rate = NoLimit
			}
			*t.field(l.io(d.Major, d.Minor)) = rate
		}
	}
	return nil
}

// io finds the line of a device, or begins it.
func (l *Limits) io(major, minor int64) *IOLimit {
	for i := range l.IO {
		if l.IO[i].Major == major && l.IO[i].Minor == minor {
			return &l.IO[i]
		}
	}
	l.IO = append(l.IO, IOLimit{Major: major, Minor: minor})
	return &l.IO[len(l.IO)-1]
}

// fromDevices puts the devices of every container behind the given rules, as
// runc does: no configuration can take /dev/null or mknod away.
func fromDevices(l *Limits, r *specs.LinuxResources) error {
	rules, err := DeviceRules(r.Devices)
	l.Devices = append(rules, AllowedDevices()...)
	return err
}

// DeviceRules converts device rules of a runtime configuration.
func DeviceRules(list []specs.LinuxDeviceCgroup) ([]DeviceRule, error) {
	rules := make([]DeviceRule, 0, len(list))
	for i, d := range list {
		r := DeviceRule{Allow: d.Allow, Type: 'a', Major: -1, Minor: -1, Access: d.Access}
		switch d.Type {
		case "":
		case "a", "b", "c":
			r.Type = d.Type[0]
		default:
			return nil, fmt.Errorf("invalid cgroup device type %q", d.Type)
		}
		if d.Access == "" {
			return nil, fmt.Errorf("device access at %d field cannot be empty", i)
		}
		if d.Major != nil {
			r.Major = *d.Major
		}
		if d.Minor != nil {
			r.Minor = *d.Minor
		}
		if r.Major > math.MaxUint32 || r.Minor > math.MaxUint32 || r.Major < -1 || r.Minor < -1 {
			return nil, fmt.Errorf("device rule %d: there is no device %d:%d", i, r.Major, r.Minor)
		}
		for _, c := range d.Access {
			if c != 'r' && c != 'w' && c != 'm' && d.Allow { // to deny what is not there does no harm
				return nil, fmt.Errorf("device rule %d: unknown access %q", i, c)
			}
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// AllowedDevices are those that runc gives every container: mknod of any, and
// use of null, zero, full, random, urandom, tty, ptmx, the pts and net/tun.
func AllowedDevices() []DeviceRule {
	rules := []DeviceRule{{true, 'c', -1, -1, "m"}, {true, 'b', -1, -1, "m"}}
	for _, d := range [][2]int64{{1, 3}, {1, 8}, {1, 7}, {5, 0}, {1, 5}, {1, 9}, {136, -1}, {5, 2}, {10, 200}} {
		rules = append(rules, DeviceRule{true, 'c', d[0], d[1], "rwm"})
	}
	return rules
}
