package resctrl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Group is where a container's tasks are. It can be kept in a file.
type Group struct {
	Dir     string `json:"dir"`               // of the class of service
	Monitor string `json:"monitor,omitempty"` // the container's own counters, "": those of Dir
	Own     bool   `json:"own,omitempty"`     // Dir is the container's own, and goes with it
}

// Plan is a group to be made: data until Enter.
type Plan struct {
	Group
	Schemata string // lines for its file, "": it stays as it is
	There    bool   // Dir must be there: the configuration names it and has no schemata
}

// Check tells whether this host has what a configuration asks for. The texts are
// those of runc.
func (h *Host) Check(r *specs.LinuxIntelRdt) error {
	switch clos := r.ClosID; {
	case clos == ".", clos == "..", len(clos) > 1 && strings.Contains(clos, "/"), strings.Contains(clos, "\x00"):
		return fmt.Errorf("invalid intelRdt.ClosID %q", clos)
	case r.L3CacheSchema != "" && !h.Cache():
		return errors.New("intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled")
	case r.MemBwSchema != "" && !h.Bandwidth():
		return errors.New("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled")
	}
	return nil
}

// Plan decides on the group of container id. It touches nothing.
func (h *Host) Plan(id string, r *specs.LinuxIntelRdt) (*Plan, error) {
	if err := h.Check(r); err != nil {
		return nil, err
	}
	p := &Plan{Schemata: Lines(r)}
	if r.ClosID != "" { // shared with others, and by whoever made it to be removed; "/" is the default group
		p.Dir, p.There = filepath.Join(h.Root, r.ClosID), p.Schemata == ""
	} else {
		p.Dir = filepath.Join(h.Root, id)
		_, err := os.Lstat(p.Dir)
		p.Own = errors.Is(err, fs.ErrNotExist)
	}
	if r.EnableMonitoring {
		p.Monitor = filepath.Join(p.Dir, "mon_groups", id)
	}
	return p, nil
}

// Lines are the schemata of a configuration, one a line: a later one of the same
// resource overrides an earlier.
func Lines(r *specs.LinuxIntelRdt) string {
	var b strings.Builder
	for _, s := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if s != "" {
			b.WriteString(s + "\n")
		}
	}
	return b.String()
}

// Print writes the plan as shell commands.
func (p *Plan) Print(w io.Writer) {
	if p.There {
		fmt.Fprintf(w, "[ -d %s ]\n", p.Dir)
	} else {
		fmt.Fprintf(w, "mkdir -p %s\n", p.Dir)
	}
	if p.Schemata != "" {
		fmt.Fprintf(w, "printf %q > %s/schemata\n", p.Schemata, p.Dir)
	}
	if p.Monitor != "" {
		fmt.Fprintf(w, "mkdir -p %s\n", p.Monitor)
	}
	p.Group.Print(w)
}

// Print writes what Enter does as shell commands.
func (g Group) Print(w io.Writer) {
	for _, d := range g.dirs() {
		fmt.Fprintf(w, "echo $PID > %s/tasks\n", d)
	}
}

func (g Group) dirs() []string {
	if g.Monitor != "" {
		return []string{g.Dir, g.Monitor} // in this order: the first resets what the second sets
	}
	return []string{g.Dir}
}

// Enter makes the group and puts a process into it, which has one thread yet.
// The share is set before anything can have it. After an error no group is left
// that was not there before.
func (p *Plan) Enter(pid int) (err error) {
	var made []string
	defer func() {
		for _, dir := range slices.Backward(made) {
			if err != nil {
				err = errors.Join(err, rmdir(dir))
			}
		}
	}()
	mkdir := func(dir string) error {
		err := os.Mkdir(dir, 0o755)
		switch {
		case err == nil:
			made = append(made, dir)
		case !errors.Is(err, fs.ErrExist):
			return status(p.Dir, err)
		case dir == p.Dir: // somebody was faster
			p.Own = false
		}
		return nil
	}
	if p.There {
		if _, err := os.Stat(p.Dir); err != nil {
			return fmt.Errorf("clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty): %w", err)
		}
	} else if err := mkdir(p.Dir); err != nil {
		return err
	}
	if p.Schemata != "" {
		if err := Write(p.Dir, p.Schemata); err != nil {
			return err
		}
	}
	if p.Monitor != "" {
		if err := mkdir(p.Monitor); err != nil {
			return err
		}
	}
	return p.Group.Enter(pid)
}

// Enter puts a process into the group, which has one thread yet.
func (g Group) Enter(pid int) error {
	for _, d := range g.dirs() {
		if err := os.WriteFile(filepath.Join(d, "tasks"), []byte(strconv.Itoa(pid)), 0o600); err != nil {
			return fmt.Errorf("intelrdt: unable to add pid %d: %w", pid, status(g.Dir, err))
		}
	}
	return nil
}

// Write gives a group its share.
func Write(dir, schemata string) error {
	if err := os.WriteFile(filepath.Join(dir, "schemata"), []byte(schemata), 0o600); err != nil {
		return fmt.Errorf("intelrdt: unable to write %q: %w", schemata, status(dir, err))
	}
	return nil
}

// Remove removes what is the container's own of its group: what runs in it yet
// falls back to the group above.
func (g Group) Remove() error {
	dir := g.Monitor
	if g.Own {
		dir = g.Dir // with all below
	}
	if dir == "" {
		return nil
	}
	return rmdir(dir)
}

func rmdir(dir string) error {
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// status adds what the kernel has to say about the last error; group is a
// directory of the file system.
func status(group string, err error) error {
	for _, root := range []string{filepath.Dir(group), group} { // the default group is the root
		if b, e := os.ReadFile(filepath.Join(root, "info", "last_cmd_status")); e == nil {
			return fmt.Errorf("%w, last_cmd_status: %s", err, strings.TrimSpace(string(b)))
		}
	}
	return err
}
