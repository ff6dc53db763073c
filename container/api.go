package container

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/image"
	"github.com/berth-run/berth/runtime"
)

var errSoon = errors.New("not there yet")

// ErrNotFound: no container, volume or name like that. errors.Is.
var (
	ErrNotFound   = errors.New("no such container")
	ErrNoVolume   = errors.New("no such volume")
	ErrInUse      = errors.New("name is already in use")
	ErrNotRunning = errors.New("container is not running")
	ErrRunning    = errors.New("container is running")
	ErrDetached   = errors.New("detached") // by the detach keys: the container runs on
)

// IO is what a foreground call connects to the process. Nil: nothing.
// With a terminal Stdin is put into raw mode when it is one.
type IO struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	DetachKeys     string // "" = ctrl-p,ctrl-q
	NoSigProxy     bool
}

// Store keeps the containers and volumes below one state root.
type Store struct {
	Root   string
	Images *image.Store
}

// Container is one container of a Store.
type Container struct {
	Record
	// Trace, when set, gets every step of a start (run --explain).
	Trace func(step string, err error, d time.Duration) `json:"-"`
	store *Store
	dir   string
}

func Open(root string, images *image.Store) (*Store, error)             { return nil, errSoon }
func (s *Store) Create(img *image.Image, o Options) (*Container, error) { return nil, errSoon } // img nil with @host
func (s *Store) Lookup(nameOrID string) (*Container, error)             { return nil, errSoon }
func (s *Store) List() ([]*Container, error)                            { return nil, errSoon } // newest first
func (s *Store) ImageInUse(imageID string) bool                         { return false }
func (s *Store) Prune() ([]string, error)                               { return nil, errSoon } // leftovers of killed processes; ids
func (s *Store) PruneContainers() (ids []string, err error)             { return nil, errSoon } // created and exited ones
func (s *Store) CreateVolume(name string, labels map[string]string) (*Volume, error) {
	return nil, errSoon
}
func (s *Store) Volumes() ([]*Volume, error)                       { return nil, errSoon }
func (s *Store) Volume(name string) (*Volume, error)               { return nil, errSoon }
func (s *Store) RemoveVolume(name string, force bool) error        { return errSoon }
func (s *Store) PruneVolumes(all bool) (names []string, err error) { return nil, errSoon }

// Volume in docker's JSON shape (volume inspect).
type Volume struct {
	CreatedAt  time.Time
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func (c *Container) State() State                 { return State{} } // read and corrected (dead pid -> exited)
func (c *Container) Spec() (*specs.Spec, error)   { return nil, errSoon }
func (c *Container) Plan() (*runtime.Plan, error) { return nil, errSoon } // for explain

// Run starts it in the foreground, with or without a terminal, and returns the
// exit code: also `start -a`. ErrDetached when the user left by the detach keys.
// A start that failed is StartCode(err).
func (c *Container) Run(ctx context.Context, s IO) (int, error) { return 0, errSoon }

// StartMonitor starts it in the background (-d, start).
func (c *Container) StartMonitor(ctx context.Context) error { return errSoon }

// Monitor is the body of `berth monitor ID` (hidden; args exactly: --root ROOT monitor ID).
func Monitor(root, id string) int { return 0 }

// StartCode is the exit code docker gives for a failed start: 127, 126 or 125.
func StartCode(err error) int { return 125 }

// Why says in one line how it ended, "" when there is nothing to say (for 137).
func (c *Container) Why() string { return "" }

func (c *Container) Attach(ctx context.Context, s IO) (int, error)              { return 0, errSoon }
func (c *Container) Exec(ctx context.Context, o ExecOptions, s IO) (int, error) { return 0, errSoon }
func (c *Container) Stop(ctx context.Context, timeout *int) error               { return errSoon } // seconds; nil: the container's own or 10
func (c *Container) Kill(sig syscall.Signal) error                              { return errSoon }
func (c *Container) Pause() error                                               { return errSoon }
func (c *Container) Unpause() error                                             { return errSoon }
func (c *Container) Wait(ctx context.Context) (int, error)                      { return 0, errSoon }
func (c *Container) Restart(ctx context.Context, timeout *int) error            { return errSoon }
func (c *Container) Remove(force, volumes bool) error                           { return errSoon }
func (c *Container) Rename(name string) error                                   { return errSoon }
func (c *Container) Logs(ctx context.Context, o LogOptions, stdout, stderr io.Writer) error {
	return errSoon
}
func (c *Container) Inspect() *Inspect      { return nil }
func (c *Container) Pids() ([]int, error)   { return nil, errSoon } // host pids, for top
func (c *Container) Mount() (string, error) { return "", errSoon }
func (c *Container) Unmount() error         { return errSoon }

// ExecOptions are the flags of exec.
type ExecOptions struct {
	Args        []string
	Interactive bool // -i
	TTY         bool // -t
	Detach      bool // -d
	Env         []string
	EnvFile     []string
	User        string
	Workdir     string
	Privileged  bool
}

// LogOptions are the flags of logs.
type LogOptions struct {
	Tail         int // -1: all
	Since, Until time.Time
	Follow       bool
	Timestamps   bool
}

// ParseSignal takes 9, KILL, SIGKILL, kill.
func ParseSignal(s string) (syscall.Signal, error) { return 0, errSoon }

// Inspect is docker's JSON of a container; fields as there.
type Inspect struct {
	ID string `json:"Id"`
}
