package resctrl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/mountinfo"
)

// ErrNotEnabled is a host without resctrl: the processor has no such thing, or
// nobody mounted it.
//
//lint:ignore ST1005 a name
var ErrNotEnabled = errors.New("Intel RDT is not enabled")

// Host is a mounted resctrl file system.
type Host struct{ Root string }

// Find finds it: where the kernel has a directory for it, or else in
// /proc/self/mountinfo. Mounting it is the administrator's business.
func Find() (*Host, error) {
	const usual = "/sys/fs/resctrl"
	var st unix.Statfs_t
	switch err := unix.Statfs(usual, &st); {
	case err == unix.ENOENT:
		return nil, ErrNotEnabled
	case err != nil:
		return nil, &os.PathError{Op: "statfs", Path: usual, Err: err}
	case st.Type == unix.RDTGROUP_SUPER_MAGIC:
		return &Host{usual}, nil
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	if dir := mountOf(string(b)); dir != "" {
		return &Host{dir}, nil
	}
	return nil, ErrNotEnabled
}

// mountOf finds the first resctrl in the text of mountinfo.
func mountOf(list string) string {
	for m := range mountinfo.All(list) {
		if m.Type == "resctrl" {
			return m.Point
		}
	}
	return ""
}

// info tells whether the host has one of the features below info.
func (h *Host) info(name string) bool {
	_, err := os.Stat(filepath.Join(h.Root, "info", name))
	return err == nil
}

// Cache tells whether the L3 cache can be divided (Intel CAT).
func (h *Host) Cache() bool { return h.info("L3") }

// Bandwidth tells whether memory bandwidth can be limited (Intel MBA).
func (h *Host) Bandwidth() bool { return h.info("MB") }

// counters are the names of what the host counts (Intel CMT and MBM): files
// below mon_data of a group.
func (h *Host) counters() map[string]bool {
	b, err := os.ReadFile(filepath.Join(h.Root, "info", "L3_MON", "mon_features"))
	if err != nil {
		return nil
	}
	m := map[string]bool{}
	for _, name := range strings.Fields(string(b)) {
		m[name] = true
	}
	return m
}
