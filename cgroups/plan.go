package cgroups

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Limits of one cgroup. Zero values are no limit; in the pointers -1 is "max".
type Limits struct {
	MemoryMax     *int64 // bytes
	MemorySwapMax *int64 // bytes of swap alone
	MemoryLow     *int64 // bytes that are reclaimed last
	MemoryHigh    *int64 // bytes above which the group is slowed
	CPUQuota      int64  // microseconds of processor time in each period
	CPUPeriod     uint64 // microseconds, 0: 100000
	CPUWeight     uint64 // 1 to 10000
	CPUs, Mems    string // lists as "0-2,4"
	PidsMax       *int64
	IO            []IOLimit
	Unified       map[string]string // further files by name
}

// IOLimit is a line of io.max; 0 is no limit.
type IOLimit struct {
	Major, Minor        int64
	ReadBPS, WriteBPS   uint64 // bytes a second
	ReadIOPS, WriteIOPS uint64 // operations a second
}

// Write is one value for one file of a cgroup.
type Write struct{ File, Value string }

// Plan is a cgroup to be made.
type Plan struct {
	Dir     string   // of the container
	parents []string // from the mount down to above Dir
	Enable  []string // controllers that each parent hands down
	Writes  []Write
}

// Plan decides how a cgroup comes to be, without touching anything. path is
// relative to Parent.
func (h *Host) Plan(path string, l Limits) (*Plan, error) {
	p := &Plan{Dir: h.Dir(path)}
	for d := filepath.Dir(p.Dir); ; d = filepath.Dir(d) {
		p.parents = append([]string{d}, p.parents...)
		if d == h.Dir("") || d == "/" {
			break
		}
	}
	writes, need, err := l.writes()
	if err != nil {
		return nil, err
	}
	for _, c := range need {
		if err := h.need(c); err != nil {
			return nil, err
		}
	}
	// These are wanted for statistics too, where they are to be had.
	for _, c := range []string{"cpu", "memory", "pids", "io"} {
		if slices.Contains(h.Controllers, c) && !slices.Contains(need, c) {
			need = append(need, c)
		}
	}
	p.Enable, p.Writes = need, writes
	return p, nil
}

func max64(v int64) string {
	if v < 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

// writes gives the values in an order in which each is valid, and the
// controllers they belong to.
func (l *Limits) writes() (out []Write, need []string, err error) {
	add := func(file, value string) {
		out = append(out, Write{file, value})
		if c, _, _ := strings.Cut(file, "."); c != "cgroup" && !slices.Contains(need, c) {
			need = append(need, c)
		}
	}
	for _, v := range []struct {
		file  string
		value *int64
	}{{"memory.max", l.MemoryMax}, {"memory.swap.max", l.MemorySwapMax}, {"memory.low", l.MemoryLow},
		{"memory.high", l.MemoryHigh}, {"pids.max", l.PidsMax}} {
		if v.value != nil {
			add(v.file, max64(*v.value))
		}
	}
	if l.CPUQuota != 0 || l.CPUPeriod != 0 {
		period := l.CPUPeriod
		if period == 0 {
			period = 100000
		}
		if period < 1000 || period > 1000000 {
			return nil, nil, fmt.Errorf("the cpu period is %d microseconds: it must be 1000 to 1000000", period)
		}
		quota := "max"
		if l.CPUQuota > 0 {
			if l.CPUQuota < 1000 {
				return nil, nil, fmt.Errorf("the cpu quota is %d microseconds a period: at least 1000 are needed", l.CPUQuota)
			}
			quota = strconv.FormatInt(l.CPUQuota, 10)
		}
		add("cpu.max", quota+" "+strconv.FormatUint(period, 10))
	}
	if l.CPUWeight != 0 {
		add("cpu.weight", strconv.FormatUint(l.CPUWeight, 10))
	}
	if l.CPUs != "" {
		add("cpuset.cpus", l.CPUs)
	}
	if l.Mems != "" {
		add("cpuset.mems", l.Mems)
	}
	for _, io := range l.IO {
		add("io.max", io.line())
	}
	for _, k := range slices.Sorted(maps.Keys(l.Unified)) {
		if strings.Contains(k, "/") || !strings.Contains(k, ".") {
			return nil, nil, fmt.Errorf("%q is not the name of a cgroup file", k)
		}
		add(k, l.Unified[k])
	}
	return out, need, nil
}

func (l IOLimit) line() string {
	s := fmt.Sprintf("%d:%d", l.Major, l.Minor)
	for _, v := range []struct {
		key   string
		value uint64
	}{{"rbps", l.ReadBPS}, {"wbps", l.WriteBPS}, {"riops", l.ReadIOPS}, {"wiops", l.WriteIOPS}} {
		if v.value != 0 {
			s += fmt.Sprintf(" %s=%d", v.key, v.value)
		}
	}
	return s
}

// Print writes the plan as shell commands.
func (p *Plan) Print(w io.Writer) {
	for _, d := range p.parents {
		if len(p.Enable) > 0 {
			fmt.Fprintf(w, "echo +%s > %s/cgroup.subtree_control\n", strings.Join(p.Enable, " +"), d)
		}
	}
	fmt.Fprintf(w, "mkdir -p %s\n", p.Dir)
	for _, v := range p.Writes {
		fmt.Fprintf(w, "echo %s > %s/%s\n", v.Value, p.Dir, v.File)
	}
}

// Apply makes the cgroup and opens its directory, for CLONE_INTO_CGROUP
// (clone3(2), Linux 5.7). The caller closes it. After an error no cgroup of
// this plan is left that was not there before.
func (p *Plan) Apply() (*os.File, error) {
	for i, d := range p.parents {
		if i > 0 {
			if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("make the cgroup: %w", err)
			}
		}
		if err := enable(d, p.Enable); err != nil {
			return nil, err
		}
	}
	made := os.Mkdir(p.Dir, 0o755)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, fmt.Errorf("make the cgroup: %w", made)
	}
	for _, v := range p.Writes {
		if err := write(p.Dir, v.File, v.Value); err != nil {
			if made == nil {
				os.Remove(p.Dir)
			}
			return nil, err
		}
	}
	return os.Open(p.Dir)
}

// enable hands controllers down to the children of a cgroup. It writes only
// what is missing: a write costs the kernel a walk over all descendants.
func enable(dir string, controllers []string) error {
	if len(controllers) == 0 {
		return nil
	}
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read the controllers of %s: %w", dir, err)
	}
	var missing []string
	on := strings.Fields(string(have))
	for _, c := range controllers {
		if !slices.Contains(on, c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return write(dir, "cgroup.subtree_control", strings.Join(missing, " "))
}

func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", file, value, err)
	}
	return nil
}
