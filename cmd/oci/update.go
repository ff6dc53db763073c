package oci

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/runtime"
)

// limits are the options of update: what was given, as it was given.
type limits struct {
	file         string
	l3, memoryBW string
	kernel       [2]string // obsolete
	set          []func(*specs.LinuxResources) error
}

const updateHelp = `What is not given stays as it is. With --resources all other options but the schemata are ignored;
the file has the form of linux.resources in the runtime specification:

{
  "memory": {"limit": 0, "reservation": 0, "swap": 0, "checkBeforeUpdate": true},
  "cpu": {"shares": 0, "quota": 0, "burst": 0, "period": 0, "realtimeRuntime": 0,
          "realtimePeriod": 0, "cpus": "", "mems": "", "idle": 0},
  "pids": {"limit": 0},
  "blockIO": {"weight": 0},
  "unified": {"memory.high": "max"}
}`

func (c *call) updateCommand() *command {
	l := &limits{}
	return &command{
		usage: "<container-id>", about: "change the limits of a container", more: updateHelp,
		min: 1, max: 1,
		options: l.options(),
		run: func(args []string) (int, error) {
			ctr, err := c.container(args[0])
			if err != nil {
				return 0, err
			}
			r, err := l.resources(os.Stdin)
			if err != nil {
				return 0, err
			}
			if l.kernel != [2]string{} {
				c.log.warn("Kernel memory settings are ignored and will be removed")
			}
			return 0, ctr.UpdateAll(r, runtime.Schemata{Cache: l.l3, Bandwidth: l.memoryBW})
		},
	}
}

func (l *limits) options() []option {
	return []option{
		text("resources,r", "FILE", "read the limits from FILE, - is the standard input", &l.file),
		l.whole("blkio-weight", "weight of block IO, 10 to 1000", func(r *specs.LinuxResources, n int) { w := uint16(n); r.BlockIO.Weight = &w }),
		l.unsigned("cpu-period", "CFS period in microseconds", func(r *specs.LinuxResources) **uint64 { return &r.CPU.Period }),
		l.signed("cpu-quota", "CFS quota in microseconds of each period", func(r *specs.LinuxResources) **int64 { return &r.CPU.Quota }),
		l.unsigned("cpu-burst", "microseconds that may be saved up for bursts", func(r *specs.LinuxResources) **uint64 { return &r.CPU.Burst }),
		l.unsigned("cpu-share", "weight among other containers, 2 to 262144", func(r *specs.LinuxResources) **uint64 { return &r.CPU.Shares }),
		l.unsigned("cpu-rt-period", "real-time period in microseconds", func(r *specs.LinuxResources) **uint64 { return &r.CPU.RealtimePeriod }),
		l.signed("cpu-rt-runtime", "real-time quota in microseconds of each period", func(r *specs.LinuxResources) **int64 { return &r.CPU.RealtimeRuntime }),
		l.text("cpuset-cpus", "LIST", "processors to use", func(r *specs.LinuxResources) *string { return &r.CPU.Cpus }),
		l.text("cpuset-mems", "LIST", "memory nodes to use", func(r *specs.LinuxResources) *string { return &r.CPU.Mems }),
		hidden(text("kernel-memory", "SIZE", "", &l.kernel[0])),
		hidden(text("kernel-memory-tcp", "SIZE", "", &l.kernel[1])),
		l.size("memory", "memory limit; sizes are bytes, or have a suffix k, m, g; -1 is no limit", func(r *specs.LinuxResources) **int64 { return &r.Memory.Limit }),
		l.signed("cpu-idle", "1: run only when nobody else wants to (SCHED_IDLE), 0: not so", func(r *specs.LinuxResources) **int64 { return &r.CPU.Idle }),
		l.size("memory-reservation", "memory that is protected from reclaim", func(r *specs.LinuxResources) **int64 { return &r.Memory.Reservation }),
		l.size("memory-swap", "limit of memory and swap together", func(r *specs.LinuxResources) **int64 { return &r.Memory.Swap }),
		l.whole("pids-limit", "number of processes and threads; -1 is no limit", func(r *specs.LinuxResources, n int) { v := int64(n); r.Pids.Limit = &v }),
		text("l3-cache-schema", "SCHEMA", "L3 cache schema of Intel RDT/CAT", &l.l3),
		text("mem-bw-schema", "SCHEMA", "memory bandwidth schema of Intel RDT/MBA", &l.memoryBW),
	}
}

// later keeps a setting until the resources are there. As in runc "" is no setting.
func (l *limits) later(names, value, about string, set func(r *specs.LinuxResources, value string) error) option {
	return option{names: names, value: value, about: about, set: func(s string) error {
		if s != "" {
			l.set = append(l.set, func(r *specs.LinuxResources) error {
				if err := set(r, s); err != nil {
					return fmt.Errorf("invalid value for %s: %w", names, err)
				}
				return nil
			})
		}
		return nil
	}}
}

func (l *limits) text(names, value, about string, field func(*specs.LinuxResources) *string) option {
	return l.later(names, value, about, func(r *specs.LinuxResources, s string) error { *field(r) = s; return nil })
}

func (l *limits) unsigned(names, about string, field func(*specs.LinuxResources) **uint64) option {
	return l.later(names, "N", about, func(r *specs.LinuxResources, s string) error {
		n, err := strconv.ParseUint(s, 10, 64)
		*field(r) = &n
		return err
	})
}

func (l *limits) signed(names, about string, field func(*specs.LinuxResources) **int64) option {
	return l.later(names, "N", about, func(r *specs.LinuxResources, s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		*field(r) = &n
		return err
	})
}

func (l *limits) size(names, about string, field func(*specs.LinuxResources) **int64) option {
	return l.later(names, "SIZE", about, func(r *specs.LinuxResources, s string) error {
		n, err := parseSize(s)
		*field(r) = &n
		return err
	})
}

// whole is a number that is looked at when options are read, as runc does.
func (l *limits) whole(names, about string, set func(*specs.LinuxResources, int)) option {
	return option{names: names, value: "N", about: about, set: func(s string) error {
		n, err := strconv.Atoi(s)
		l.set = append(l.set, func(r *specs.LinuxResources) error { set(r, n); return nil })
		return err
	}}
}

// resources are those of the options, or of the file. Names in the file match
// in any case, as encoding/json has it.
func (l *limits) resources(stdin io.Reader) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{}}
	if l.file == "" {
		for _, set := range l.set {
			if err := set(r); err != nil {
				return nil, err
			}
		}
		return r, nil
	}
	if l.file != "-" {
		f, err := os.Open(l.file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	return r, json.NewDecoder(stdin).Decode(r)
}
