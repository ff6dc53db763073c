package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/engine"
)

// CreateOptions is what a spec has no words for.
type CreateOptions struct {
	Bundle string      // directory with config.json; "": the working directory
	Spec   *specs.Spec // in place of Bundle's config.json
	Text   []byte      // that Spec was read from, nil for one of the caller's own: it is kept as it stands
	Config string      // another path of config.json (crun --config)

	// Streams of the process; nil is /dev/null. They stay the caller's.
	Stdin, Stdout, Stderr *os.File

	ConsoleSocket string // unix socket that gets the terminal's master; without it Process().Console has it
	PidfdSocket   string // unix socket that gets a pidfd of the process
	PidFile       string // written when the process is there
	NoPivot       bool   // MS_MOVE and chroot in place of pivot_root, for a root on a ramdisk
	NoNewKeyring  bool
	PreserveFDs   int // of the caller's descriptors from 3 on

	// Prepare, if it is set, is called when the container's own directory is
	// there and nothing of the spec is decided yet; it may change the spec. What
	// it makes in dir is deleted with the container.
	Prepare func(dir string, spec *specs.Spec) error
}

// Create makes a container that waits for Start.
func (s *Store) Create(ctx context.Context, id string, o CreateOptions) (*Container, error) {
	return s.make(ctx, id, o, true)
}

// Run makes a container and starts it at once.
func (s *Store) Run(ctx context.Context, id string, o CreateOptions) (*Container, error) {
	return s.make(ctx, id, o, false)
}

func (s *Store) make(ctx context.Context, id string, o CreateOptions, waits bool) (*Container, error) {
	m, err := s.begin(id, o)
	if err != nil {
		return nil, err
	}
	m.waits = waits
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(err, m.undo())
	}
	return m.Container, nil
}

// begin makes the directory of a container.
func (s *Store) begin(id string, o CreateOptions) (*maker, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	m := &maker{Container: &Container{ID: id, store: s, dir: filepath.Join(s.Root, id)}, o: o}
	if err := m.load(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make the root of containers: %w", err)
	}
	if err := os.Mkdir(m.dir, 0o711); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, ErrExist
		}
		return nil, fmt.Errorf("make the directory of container %s: %w", id, err)
	}
	return m, nil
}

// maker is a container while it is made.
type maker struct {
	*Container
	o      CreateOptions
	waits  bool
	config engine.Config
	cgroup cgroups.Manager
	gate   func() engine.Gate // nil: it does not wait
}

// load reads the configuration and makes its paths absolute.
func (m *maker) load() (err error) {
	if m.o.Bundle, err = filepath.Abs(m.o.Bundle); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if m.spec = m.o.Spec; m.spec == nil {
		file := m.o.Config
		if file == "" {
			file = filepath.Join(m.o.Bundle, specFile)
		}
		if m.spec, m.o.Text, err = ReadSpec(file); err != nil {
			return err
		}
	}
	return normalise(m.spec, m.o.Bundle)
}

// start decides and makes the container.
func (m *maker) start(ctx context.Context) error {
	if err := m.prepare(ctx); err != nil {
		return err
	}
	switch h := m.spec.Hooks; {
	case m.waits:
		return m.create(ctx)
	case h != nil && len(h.StartContainer) > 0: // hooks between the two
		if err := m.create(ctx); err != nil {
			return err
		}
		return m.Start(ctx)
	}
	return m.run(ctx)
}

// prepare decides what the container is to be, and writes its state before its
// cgroup and its process are there: whoever finds a killed creation knows what to
// remove.
func (m *maker) prepare(ctx context.Context) (err error) {
	if m.o.Prepare != nil {
		if err := m.o.Prepare(m.dir, m.spec); err != nil {
			return err
		}
	}
	if err := m.keepSpec(); err != nil {
		return err
	}
	m.state = state{ID: m.ID, Bundle: m.o.Bundle, Rootfs: m.spec.Root.Path, Version: specs.Version, Owner: os.Geteuid(),
		Notes: m.spec.Annotations, Boot: engine.BootID(), NoNewKeyring: m.o.NoNewKeyring, OwnPids: own(m.spec.Linux, specs.PIDNamespace), Hooks: laterHooks(m.spec),
		Created: time.Now().UTC().Format(time.RFC3339Nano)}
	if !m.spec.Process.Terminal {
		m.state.Streams = streams(m.o.Stdin, m.o.Stdout, m.o.Stderr)
	}
	m.noteRoot()
	if m.config, err = m.decide(ctx); err != nil {
		return err
	}
	m.state.Creating = true
	return m.saveNew(creatingFile)
}

// keepSpec keeps the configuration with the container. Its text as it was read
// takes a tenth of the time that writing JSON anew would; the file may be
// another by now, or a pipe.
func (m *maker) keepSpec() error {
	if m.o.Text == nil || m.o.Prepare != nil {
		return m.saveSpec(m.spec)
	}
	if err := os.WriteFile(m.path(specFile), m.o.Text, 0o600); err != nil {
		return fmt.Errorf("keep the configuration: %w", err)
	}
	return nil
}

// own tells whether a container has a new namespace of a kind.
func own(l *specs.Linux, t specs.LinuxNamespaceType) bool {
	n, ok := engine.Namespace(l, t)
	return ok && n.Path == ""
}

func laterHooks(s *specs.Spec) bool {
	return s.Hooks != nil && len(s.Hooks.StartContainer)+len(s.Hooks.Poststart)+len(s.Hooks.Poststop) > 0
}

func (m *maker) create(ctx context.Context) error {
	plan, err := engine.DecideWaiting(m.config, m.dir)
	if err != nil {
		return err
	}
	m.tell(plan)
	m.gate = plan.Gate
	w, err := plan.Create(ctx)
	if err != nil {
		return startFailed(err)
	}
	m.init = w.Process
	return m.made()
}

func (m *maker) run(ctx context.Context) error {
	plan, err := engine.Decide(m.config)
	if err != nil {
		return err
	}
	m.tell(plan)
	if m.init, err = plan.Start(ctx); err != nil {
		return startFailed(err)
	}
	if err := m.made(); err != nil {
		return err
	}
	return m.poststart(ctx, m.spec)
}

func (m *maker) tell(p *engine.Plan) {
	for _, w := range p.Warnings() {
		m.store.warn("%s", w)
	}
}

// made hands out what callers asked for, when the process is there.
func (m *maker) made() error {
	m.state.Creating = false
	if err := os.Remove(m.path(creatingFile)); err != nil {
		return fmt.Errorf("save the state of container %s: %w", m.ID, err)
	}
	if m.cgroup != nil && m.cgroup.Dir() == "" && !m.state.OwnPids {
		m.store.warn("the container has no cgroup and no pid namespace of its own. Such configuration is strongly discouraged: nothing can find and kill all of its processes")
	}
	return deliver(m.init, m.o.ConsoleSocket, m.o.PidfdSocket, m.o.PidFile)
}

// cloned writes down which process it is, as soon as it is there.
func (m *maker) cloned(pid int) error {
	if err := m.note(pid); err != nil {
		return err
	}
	return m.moveDevices(pid)
}

func (m *maker) note(pid int) error {
	if m.state.Pid == pid {
		return nil
	}
	if m.gate != nil {
		g := m.gate()
		m.state.Gate = &g
	}
	first := m.state.Pid == 0
	m.state.Pid = pid
	m.state.Ticks, _ = engine.ProcessStart(pid)
	m.state.Cgroup = m.cgroupState()
	if first {
		return m.saveNew(stateFile)
	}
	return m.save()
}

func (m *maker) cgroupState() cgroups.State {
	if m.cgroup == nil {
		return cgroups.State{}
	}
	return m.cgroup.State()
}

// undo removes what a failed creation made. Its process is gone, or ends here.
func (m *maker) undo() error {
	if m.init != nil {
		m.Kill(9, true)
		m.init.Wait()
	}
	var errs []error
	if m.cgroup != nil && m.applied() {
		errs = append(errs, m.cgroup.Remove())
	}
	if m.state.Resctrl != nil {
		errs = append(errs, m.state.Resctrl.Remove())
	}
	return errors.Join(append(errs, m.unmountRoot(), os.RemoveAll(m.dir))...)
}

// applied: a cgroup that was there and in use, which is an error, is not ours to remove.
func (m *maker) applied() bool { return m.state.Pid != 0 || m.config.Cgroup.(*applying).done }

// applying notes that a manager has made its cgroup.
type applying struct {
	cgroups.Manager
	done bool
}

func (a *applying) Apply(hold cgroups.Placeholder) (*os.File, error) {
	f, err := a.Manager.Apply(hold)
	a.done = err == nil
	return f, err
}

// ExecveError is a program that was there, might be executed, and was not: its
// interpreter is missing, or it is none. Error is one line without more, as runc has it.
type ExecveError struct {
	Path string
	err  error
}

func (e *ExecveError) Error() string {
	var errno unix.Errno
	errors.As(e.err, &errno)
	return "exec " + e.Path + ": " + errno.Error()
}

// Unwrap gives the *engine.StartError, which says more.
func (e *ExecveError) Unwrap() error { return e.err }

// startError is an error of the engine in runc's words, which callers match.
type startError struct {
	text string
	err  error
}

func (e *startError) Error() string { return e.text }
func (e *startError) Unwrap() error { return e.err }

// startFailed puts an error of the engine into runc's words.
func startFailed(err error) error {
	const prefix = "unable to start container process: "
	var s *engine.StartError
	var hook *hookFailed
	if errors.As(err, &hook) || !errors.As(err, &s) {
		return &startError{prefix + err.Error(), err}
	}
	name := strings.TrimPrefix(s.Object, "execute ")
	if dir, ok := strings.CutPrefix(s.Object, "working directory "); ok {
		dir, _, _ = strings.Cut(dir, ": ")
		return &startError{fmt.Sprintf("%schdir to cwd (%q) set in config.json failed: %s", prefix, dir, s.Errno.Error()), err}
	}
	switch {
	case s.Execve:
		return &ExecveError{s.File, err}
	case errors.Is(err, engine.ErrNotFound) && strings.Contains(name, "/"):
		return &startError{fmt.Sprintf("%sexec: %q: stat %s: no such file or directory", prefix, name, name), err}
	case errors.Is(err, engine.ErrNotFound):
		return &startError{fmt.Sprintf("%sexec: %q: executable file not found in $PATH", prefix, name), err}
	case errors.Is(err, engine.ErrNotExecutable):
		return &startError{fmt.Sprintf("%sexec: %q: %s", prefix, name, s.Errno.Error()), err}
	}
	return &startError{prefix + "error during container init: " + err.Error(), err}
}
