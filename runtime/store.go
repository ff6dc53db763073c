package runtime

import (
	"context"
	"errors"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/engine"
)

// Store keeps containers below Root, one directory each, mode 0711.
type Store struct {
	Root          string
	SystemdCgroup bool // new containers get their cgroup from systemd

	// Warn is told of what is odd and no error; nil: nobody is.
	Warn func(text string)
	// Debug is told of what is done; nil: nobody is.
	Debug func(text string)
}

// Container is one container of a store.
type Container struct {
	ID    string
	store *Store
	dir   string
	state state
	init  *engine.Process // of the process that created it
}

type state struct{}

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
)

// CreateOptions is what a spec has no words for.
type CreateOptions struct {
	Bundle string      // directory with config.json; "": the working directory
	Spec   *specs.Spec // in place of Bundle's config.json
	Config string      // another path of config.json (crun --config)

	// Streams of the process; nil is /dev/null. They stay the caller's.
	Stdin, Stdout, Stderr *os.File

	ConsoleSocket string // unix socket that gets the terminal's master; Process.Terminal without it: Container.Console
	PidfdSocket   string // unix socket that gets a pidfd of the process
	PidFile       string // written when the process is there
	NoPivot       bool   // MS_MOVE and chroot in place of pivot_root, for a root on a ramdisk
	NoNewKeyring  bool
	PreserveFDs   int // of the caller's descriptors from 3 on
}

// ExecOptions is one more process for a container.
type ExecOptions struct {
	Process *specs.Process // whole: Args, Cwd, Env, User …; see Container.ExecProcess

	Stdin, Stdout, Stderr *os.File

	ConsoleSocket string
	PidfdSocket   string
	PidFile       string
	Cgroup        string // below the container's own, "" that itself
	PreserveFDs   int
	IgnorePaused  bool
}

// Create makes a container that waits for Start.
func (s *Store) Create(ctx context.Context, id string, o CreateOptions) (*Container, error) {
	return nil, errors.New("not yet")
}

// Load finds a container; ErrNotExist.
func (s *Store) Load(id string) (*Container, error) { return nil, errors.New("not yet") }

// List finds all containers, by id.
func (s *Store) List() ([]*Container, error) { return nil, errors.New("not yet") }

// DeleteLeftovers removes what a killed Create left of a container that Load does not find.
func (s *Store) DeleteLeftovers(ctx context.Context, id string) error { return errors.New("not yet") }

// State is what `state` and `list` tell, in the order of their fields.
type State struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      string            `json:"status"` // created running paused stopped
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     string            `json:"created"` // RFC 3339 with nanoseconds
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

// State looks at the container now.
func (c *Container) State() (*State, error) { return nil, errors.New("not yet") }

// Spec is the container's configuration as it was at its creation.
func (c *Container) Spec() (*specs.Spec, error) { return nil, errors.New("not yet") }

// ExecProcess is the process of the spec without arguments, as a base for ExecOptions.Process.
func (c *Container) ExecProcess() (*specs.Process, error) { return nil, errors.New("not yet") }

// Start lets the program be executed; returns when that has happened.
func (c *Container) Start(ctx context.Context) error { return errors.New("not yet") }

// Exec starts one more process and returns when its program has been executed.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (*engine.Process, error) {
	return nil, errors.New("not yet")
}

// Process is the first process, for Wait, Console and Pidfd: only in the process that created the container.
func (c *Container) Process() *engine.Process { return c.init }

// Kill sends a signal to the first process, or to all.
func (c *Container) Kill(sig unix.Signal, all bool) error { return errors.New("not yet") }

// Delete removes a stopped container; with force any.
func (c *Container) Delete(ctx context.Context, force bool) error { return errors.New("not yet") }

// Pause stops all processes (cgroup v2 freezer).
func (c *Container) Pause() error { return errors.New("not yet") }

// Resume lets them go on.
func (c *Container) Resume() error { return errors.New("not yet") }

// Processes are the pids of all processes, in the caller's pid namespace.
func (c *Container) Processes() ([]int, error) { return nil, errors.New("not yet") }

// Update changes the limits of a container; unset fields stay as they are.
func (c *Container) Update(r *specs.LinuxResources) error { return errors.New("not yet") }

// Stats is what the container uses now.
func (c *Container) Stats() (*cgroups.Stats, error) { return nil, errors.New("not yet") }

// WatchOOM calls f for every OOM kill until the container ends or ctx does.
func (c *Container) WatchOOM(ctx context.Context, f func()) error { return errors.New("not yet") }
