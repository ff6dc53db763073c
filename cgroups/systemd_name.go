package cgroups

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// property is one of a unit (a(sv) of org.freedesktop.systemd1).
type property struct {
	Name  string
	Value dbus.Variant
}

func prop(name string, v any) property { return property{name, dbus.MakeVariant(v)} }

// unitName takes linux.cgroupsPath apart, which for systemd is
// SLICE:PREFIX:NAME, and gives the slice and the scope PREFIX-NAME.scope.
func unitName(cgroupsPath, id string, user bool) (slice, unit string, err error) {
	slice = "system.slice"
	if user {
		slice = "user.slice"
	}
	if cgroupsPath == "" {
		return slice, "berth-" + id + ".scope", nil
	}
	part := strings.Split(cgroupsPath, ":")
	if len(part) != 3 {
		return "", "", fmt.Errorf("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", cgroupsPath)
	}
	if part[0] != "" {
		slice = part[0]
	}
	if slice == "-" {
		slice = "-.slice"
	}
	if _, err := sliceDir(slice); err != nil {
		return "", "", err
	}
	if strings.HasSuffix(part[2], ".slice") {
		return "", "", fmt.Errorf("cgroupsPath %q names the slice %s: a slice holds no processes, only scopes and services do", cgroupsPath, part[2])
	}
	unit = part[1] + "-" + part[2] + ".scope"
	if strings.Contains(unit, "/") {
		return "", "", fmt.Errorf("invalid unit name %q: it has a slash", unit)
	}
	return slice, unit, nil
}

// sliceDir is where a slice is: a-b.slice lies in a.slice (systemd.slice(5)).
func sliceDir(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("invalid slice name: %s", slice)
	}
	if name == "-" {
		return "/", nil
	}
	dir, at := "/", ""
	for _, part := range strings.Split(name, "-") {
		if part == "" {
			return "", fmt.Errorf("invalid slice name: %s", slice)
		}
		at += part
		dir = path.Join(dir, at+".slice")
		at += "-"
	}
	return dir, nil
}

const annotation = "org.systemd.property."

// annotated are the properties that annotations ask for, in GVariant's text
// form. Names that end in Sec are the user's for what the bus calls USec.
func annotated(annotations map[string]string) ([]property, error) {
	var list []property
	for key, text := range annotations {
		name, ok := strings.CutPrefix(key, annotation)
		if !ok {
			continue
		}
		if len(name) < 3 || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
			return nil, fmt.Errorf("annotation %s: this is not the name of a property: at least three letters and nothing else", key)
		}
		v, err := dbus.ParseVariant(text, dbus.Signature{})
		if err == nil {
			if stem, ok := strings.CutSuffix(name, "Sec"); ok && stem[len(stem)-1] >= 'a' && stem[len(stem)-1] <= 'z' {
				name = stem + "USec"
				v, err = microseconds(v)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("annotation %s=%s: %w", key, text, err)
		}
		list = append(list, property{name, v})
	}
	slices.SortFunc(list, func(a, b property) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func microseconds(v dbus.Variant) (dbus.Variant, error) {
	const usec = 1000000
	var n uint64
	switch s := v.Value().(type) {
	case byte:
		n = uint64(s) * usec
	case int16:
		n = uint64(s) * usec
	case uint16:
		n = uint64(s) * usec
	case int32:
		n = uint64(s) * usec
	case uint32:
		n = uint64(s) * usec
	case int64:
		n = uint64(s) * usec
	case uint64:
		n = s * usec
	case float64:
		n = uint64(s * usec)
	default:
		return v, errors.New("not a number")
	}
	return dbus.MakeVariant(n), nil
}

// infinity is no limit among the properties.
const infinity = uint64(math.MaxUint64)

// properties says the writes in systemd's words, as far as it has any, and
// rounds what it cannot say exactly: the value that is written in the end must
// be the same, or systemd changes it again at the next chance.
func properties(writes []Write) ([]property, error) {
	var list []property
	for i := range writes {
		w := &writes[i]
		p, err := w.property()
		if err != nil {
			return nil, fmt.Errorf("%s=%q as a property of systemd: %w", w.File, w.Value, err)
		}
		list = append(list, p...)
	}
	return list, nil
}

// named gives the names of those that need no more than another name. (A map
// would be made at every start of the program.)
func named(file string) string {
	switch file {
	case "memory.min":
		return "MemoryMin"
	case "memory.low":
		return "MemoryLow"
	case "memory.high":
		return "MemoryHigh"
	case "memory.max":
		return "MemoryMax"
	case "memory.swap.max":
		return "MemorySwapMax"
	case "memory.zswap.max":
		return "MemoryZSwapMax"
	case "pids.max":
		return "TasksMax"
	case "cpu.weight":
		return "CPUWeight"
	case "cpuset.cpus":
		return "AllowedCPUs"
	case "cpuset.mems":
		return "AllowedMemoryNodes"
	}
	return ""
}

func (w *Write) property() ([]property, error) {
	value := strings.TrimSpace(w.Value)
	switch w.File {
	case "cpu.max":
		return w.quota()
	case "cpu.idle":
		if value == "1" { // what it is called from systemd 252 on; 0 has no name
			return []property{prop("CPUWeight", uint64(0))}, nil
		}
	case "cpuset.cpus", "cpuset.mems":
		bits, err := mask(value)
		if err != nil {
			return nil, err
		}
		return []property{prop(named(w.File), bits)}, nil
	case "io.bfq.weight", "io.weight":
		if w.Or != nil {
			w = w.Or
		} else if w.File != "io.weight" {
			return nil, nil
		}
		value = strings.TrimPrefix(strings.TrimSpace(w.Value), "default ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil { // not of one device
			return []property{prop("IOWeight", n)}, nil
		}
	default:
		name := named(w.File)
		if name == "" {
			return nil, nil
		}
		n := infinity
		if value != "max" {
			var err error
			if n, err = strconv.ParseUint(value, 10, 64); err != nil {
				return nil, err
			}
		}
		if name == "TasksMax" && n == 0 {
			n = 1 // the least that it takes
		}
		return []property{prop(name, n)}, nil
	}
	return nil, nil
}

// quota: systemd counts in whole percents of a processor, so that what is
// written is rounded up to one.
func (w *Write) quota() ([]property, error) {
	f := strings.Fields(w.Value)
	if len(f) == 1 {
		f = append(f, "100000")
	}
	if len(f) != 2 {
		return nil, errors.New("not a quota and a period")
	}
	period, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil || period == 0 {
		return nil, errors.New("the period is no number")
	}
	perSec := infinity
	if f[0] != "max" {
		quota, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			return nil, errors.New("the quota is no number")
		}
		const percent = 10000 // microseconds in a second
		perSec = quota * 1000000 / period
		if perSec%percent != 0 {
			perSec += percent - perSec%percent
			w.Value = strconv.FormatUint(perSec*period/1000000, 10) + " " + f[1]
		}
	}
	return []property{prop("CPUQuotaPeriodUSec", period), prop("CPUQuotaPerSecUSec", perSec)}, nil
}

// mask turns a list as "0-2,4" into bits, the first in the lowest of the first byte.
func mask(list string) ([]byte, error) {
	const most = 8192 // CONFIG_NR_CPUS and nodes end there
	var bits []byte
	for _, r := range strings.Split(list, ",") {
		r = strings.TrimSpace(r)
		if r == "" {
			continue
		}
		first, last, ok := strings.Cut(r, "-")
		if !ok {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 32)
		to, err2 := strconv.ParseUint(last, 10, 32)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		if from > to || to >= most {
			return nil, fmt.Errorf("%s is no range below %d", r, most)
		}
		for ; from <= to; from++ {
			for uint64(len(bits)) <= from/8 {
				bits = append(bits, 0)
			}
			bits[from/8] |= 1 << (from % 8)
		}
	}
	if len(bits) == 0 {
		return nil, errors.New("the list is empty")
	}
	return bits, nil
}
