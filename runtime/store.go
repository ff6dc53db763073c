package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/resctrl"
	"github.com/berth-run/berth/runtime/engine"
)

// Store keeps containers below Root, one directory each, mode 0711.
type Store struct {
	Root          string
	SystemdCgroup bool // new containers get their cgroup from systemd
	NoCgroup      bool // new containers begin in the caller's
	Rootless      bool // a cgroup that may not be made is no error, unless the spec asks for one

	// Warn is told of what is odd and no error; nil: nobody is.
	Warn func(text string)
	// Debug is told of what is done; nil: nobody is.
	Debug func(text string)

	findResctrl func() (*resctrl.Host, error) // nil: resctrl.Find
}

// Container is one container of a store.
type Container struct {
	ID    string
	store *Store
	dir   string
	state state
	spec  *specs.Spec     // once it was read
	init  *engine.Process // of the process that created it
}

// state is what state.json holds.
type state struct {
	ID      string            `json:"id"`
	Bundle  string            `json:"bundle"`
	Rootfs  string            `json:"rootfs"`
	Created string            `json:"created"`
	Version string            `json:"ociVersion"`
	Owner   int               `json:"owner"` // uid of the caller
	Notes   map[string]string `json:"annotations,omitempty"`
	Cgroup  cgroups.State     `json:"cgroup"`
	Resctrl *resctrl.Group    `json:"resctrl,omitempty"` // nil: the caller's

	Pid   int    `json:"pid"`   // 0: its creation did not come so far
	Ticks uint64 `json:"ticks"` // when that process started
	Boot  string `json:"boot"`

	Gate         *engine.Gate `json:"gate,omitempty"` // nil: there is none, or not yet
	Creating     bool         `json:"-"`              // creatingFile is there
	NoNewKeyring bool         `json:"noNewKeyring,omitempty"`
	OwnPids      bool         `json:"ownPids,omitempty"` // a pid namespace of its own
	Hooks        bool         `json:"hooks,omitempty"`   // of start or delete: the configuration has to be read for them
	NoSetgroups  bool         `json:"noSetgroups,omitempty"`
	RootMount    uint64       `json:"rootMount,omitempty"` // see noteRoot
	Streams      []string     `json:"streams,omitempty"`   // see streams
}

// The errors that callers tell apart. Their texts are those of runc, which
// containerd, CRI-O and podman match.
var (
	ErrNotExist   = errors.New("container does not exist")
	ErrExist      = errors.New("container with given ID already exists")
	ErrInvalidID  = errors.New("invalid container ID format")
	ErrNotRunning = errors.New("container not running")
	ErrRunning    = errors.New("container still running")
	ErrPaused     = errors.New("container paused")
	ErrNotPaused  = errors.New("container not paused")
	ErrNoCgroup   = errors.New("cgroup not exist")
)

// The files of a container. creatingFile is written before its cgroup and its
// process are there, stateFile beside the process when it is there, and then
// creatingFile goes: no file of these replaces another, for which ext4 would
// write the data out at once.
const (
	stateFile    = "state.json"
	creatingFile = "creating.json"
	specFile     = "config.json"
)

// checkID: a container's id is the name of its directory.
func checkID(id string) error {
	if id == "" || id == "." || id == ".." {
		return ErrInvalidID
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '+', c == '-', c == '.':
		default:
			return ErrInvalidID
		}
	}
	return nil
}

// Load finds a container; ErrNotExist.
func (s *Store) Load(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &Container{ID: id, store: s, dir: filepath.Join(s.Root, id)}
	// The state may come, and creatingFile go, between two looks: who found
	// neither looks again. Either may be there in part, being written or left so
	// by a create that was killed; before creatingFile is whole nothing was made.
	var broken error
	for range 2 {
		there, err := c.read(stateFile)
		if there {
			c.state.Creating = unix.Access(c.path(creatingFile), unix.F_OK) == nil
			return c, nil
		}
		broken = err
		if there, _ = c.read(creatingFile); there {
			c.state.Creating = true
			return c, nil
		}
	}
	if broken != nil {
		return nil, fmt.Errorf("read the state of container %s: %w", id, broken)
	}
	return nil, ErrNotExist
}

// read reads a state file. there is false, without an error, of one that is
// missing or empty.
func (c *Container) read(file string) (there bool, err error) {
	b, err := os.ReadFile(c.path(file))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return false, nil
	}
	if err == nil {
		c.state = state{}
		err = coldjson.Unmarshal(b, &c.state)
	}
	return err == nil, err
}

func (c *Container) path(file string) string { return c.dir + "/" + file }

// List finds all containers, by id. A root that is not there is an error.
func (s *Store) List() ([]*Container, error) {
	entries, err := os.ReadDir(s.Root)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var out []*Container
	for _, e := range entries {
		c, err := s.Load(e.Name())
		if err != nil { // being made or removed
			continue
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *Container) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out, nil
}

// save writes state.json; a reader sees the old or the new one.
func (c *Container) save() error { return c.write(stateFile, c.replace) }

// saveNew writes a file that is not there yet. A reader may see it empty.
func (c *Container) saveNew(name string) error {
	return c.write(name, func(name string, b []byte) error { return os.WriteFile(c.path(name), b, 0o600) })
}

func (c *Container) write(name string, how func(string, []byte) error) error {
	b, err := coldjson.Marshal(&c.state)
	if err == nil {
		err = how(name, b)
	}
	if err != nil {
		return fmt.Errorf("save the state of container %s: %w", c.ID, err)
	}
	return nil
}

// replace writes a file of the container's directory beside itself and renames it.
func (c *Container) replace(name string, b []byte) error {
	file := c.path(name)
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// LoadSpec reads a config.json.
func LoadSpec(path string) (*specs.Spec, error) {
	s, _, err := ReadSpec(path)
	return s, err
}

// ReadSpec is LoadSpec, and gives the text, too (CreateOptions.Text).
func ReadSpec(path string) (*specs.Spec, []byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("JSON specification file %s not found", path)
		}
		return nil, nil, err
	}
	s := &specs.Spec{}
	if err := coldjson.Unmarshal(b, s); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, b, nil
}

// Spec is the container's configuration as it was at its creation, with what
// Update changed since.
func (c *Container) Spec() (*specs.Spec, error) {
	if c.spec != nil {
		return c.spec, nil
	}
	s, err := LoadSpec(c.path(specFile))
	if err != nil {
		return nil, err
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	c.spec = s
	return s, nil
}

func (c *Container) saveSpec(s *specs.Spec) error {
	b, err := coldjson.Marshal(s)
	if err != nil {
		return err
	}
	if err := c.replace(specFile, b); err != nil {
		return fmt.Errorf("save the configuration: %w", err)
	}
	return nil
}

// ignored tells which limits have no meaning on cgroup v2.
func (s *Store) ignored(l cgroups.Limits) {
	for _, text := range l.Ignored {
		s.warn("%s", text)
	}
}

func (s *Store) warn(format string, args ...any) {
	if s.Warn != nil {
		s.Warn(fmt.Sprintf(format, args...))
	}
}

func (s *Store) debug(format string, args ...any) {
	if s.Debug != nil {
		s.Debug(fmt.Sprintf(format, args...))
	}
}
