package container

import (
	"errors"
	"fmt"

	"github.com/berth-run/berth/cgroups"
)

// minMemory is about what the kernel needs for the smallest static program; what
// berth itself needs is not charged to the container. (docker: 6 MB, for runc's sake.)
const minMemory = 128 << 10

// limits gives the flags docker's meaning in the words of cgroup v2.
func limits(o *Options) (cgroups.Limits, error) {
	var l cgroups.Limits
	if err := memoryLimits(o, &l); err != nil {
		return l, err
	}
	if err := cpuLimits(o, &l); err != nil {
		return l, err
	}
	if p := o.PidsLimit; p != nil && *p > 0 { // 0 and -1: no limit
		l.PidsMax = p
	}
	if w := o.BlkioWeight; w != 0 {
		if w < 10 || w > 1000 {
			return l, errors.New("--blkio-weight must be 10 to 1000")
		}
		// 10..1000 onto 1..10000 as runc does
		l.Unified = map[string]string{"io.weight": fmt.Sprint(1 + (int64(w)-10)*9999/990)}
	}
	return l, nil
}

func memoryLimits(o *Options, l *cgroups.Limits) error {
	if o.Memory < 0 || o.MemoryReservation < 0 {
		return errors.New("a memory limit cannot be negative")
	}
	if o.Memory > 0 {
		if o.Memory < minMemory {
			return fmt.Errorf("minimum memory limit allowed is 128KB, got %d bytes", o.Memory)
		}
		l.MemoryMax = &o.Memory
		swap := o.Memory // docker: as much swap as memory unless told otherwise
		switch {
		case o.MemorySwap == nil || *o.MemorySwap == 0:
		case *o.MemorySwap < 0:
			swap = -1
		case *o.MemorySwap < o.Memory:
			return errors.New("--memory-swap must not be smaller than --memory: it is the sum of both")
		default:
			swap = *o.MemorySwap - o.Memory
		}
		l.MemorySwapMax = &swap
	} else if o.MemorySwap != nil && *o.MemorySwap > 0 {
		return errors.New("--memory-swap needs --memory: it is the sum of both")
	}
	if o.MemoryReservation > 0 {
		if o.Memory > 0 && o.MemoryReservation > o.Memory {
			return errors.New("--memory-reservation must not be greater than --memory")
		}
		l.MemoryLow = &o.MemoryReservation
	}
	return nil
}

// cpuLimits: --cpus is a quota in the usual period; the cpuset is checked by
// the kernel when it is written.
func cpuLimits(o *Options, l *cgroups.Limits) error {
	if o.CPUs != 0 {
		if o.CPUQuota != 0 || o.CPUPeriod != 0 {
			return errors.New("conflicting options: --cpus with --cpu-quota or --cpu-period")
		}
		if o.CPUs < 0.01 {
			return fmt.Errorf("--cpus %g is too small, at least 0.01 is needed", o.CPUs)
		}
		l.CPUPeriod = 100000
		l.CPUQuota = int64(o.CPUs*100000 + 0.5)
	} else {
		l.CPUPeriod, l.CPUQuota = o.CPUPeriod, o.CPUQuota
	}
	if o.CPUShares != 0 {
		l.CPUWeight = weightOf(o.CPUShares)
	}
	l.CPUs, l.Mems = o.CpusetCPUs, o.CpusetMems
	return nil
}

// weightOf maps --cpu-shares 2..262144 onto cpu.weight 1..10000 as runc does.
func weightOf(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}
