package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/criu"
	"github.com/berth-run/berth/runtime/engine"
)

// Restore makes a container of what Checkpoint saved, by the configuration in
// its bundle. It runs when Restore returns, as a child of the caller.
func (s *Store) Restore(ctx context.Context, id string, o CreateOptions, k CheckpointOptions) (*Container, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	m, err := s.begin(id, o)
	if err != nil {
		return nil, err
	}
	if err := m.restore(ctx, &k); err != nil {
		return nil, errors.Join(err, m.undo())
	}
	return m.Container, nil
}

func (m *maker) restore(ctx context.Context, k *CheckpointOptions) error {
	if err := m.prepare(ctx); err != nil {
		return err
	}
	program, err := m.store.criu(ctx)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	r := &criu.Restore{Annotations: m.spec.Annotations, Namespaces: joined(m.spec), Null: null}
	for i, f := range []*os.File{m.o.Stdin, m.o.Stdout, m.o.Stderr} {
		if r.Streams[i] = f; f == nil {
			r.Streams[i] = null
		}
	}
	t := &tree{spec: m.spec}
	if r.Root, err = t.mountPoint(m.dir); err != nil {
		return err
	}
	defer os.Remove(r.Root)
	var console *os.File
	err = program.Restore(ctx, k, r, criu.Events{
		Start:      t.start,
		Started:    m.enclose,
		Namespaces: func(pid int) error { return m.restoredNamespaces(ctx, pid) },
		Terminal: func(f *os.File) error {
			console = f
			return nil
		},
		Restored: m.restored,
	})
	if err == nil {
		m.init.Console = console
		return m.made(ctx)
	}
	if console != nil {
		console.Close()
	}
	return err
}

// enclose puts criu into the container's cgroup: what it clones begins there. A
// scope of systemd takes criu as its first process.
func (m *maker) enclose(pid int) error {
	c := &m.config
	if c.Cgroup == nil {
		return nil
	}
	held := false
	dir, err := c.Cgroup.Apply(func() (int, error) {
		held = true
		return pid, nil
	})
	if err != nil || dir == nil {
		return err
	}
	defer dir.Close()
	if m.state.Cgroup = m.cgroupState(); !held {
		if err := m.cgroup.Attach(pid, ""); err != nil {
			return fmt.Errorf("put criu into the container's cgroup: %w", err)
		}
	}
	if len(c.Devices) > 0 {
		return cgroups.DeviceFilter(dir, c.Devices)
	}
	return nil
}

// restoredNamespaces is called when the namespaces are there and nothing is in
// them: of a network namespace of the container's own criu has restored nothing.
func (m *maker) restoredNamespaces(ctx context.Context, pid int) error {
	for _, n := range m.spec.Linux.Namespaces {
		if n.Type != specs.NetworkNamespace || n.Path != "" {
			continue
		}
		if err := loopback(pid); err != nil {
			return err
		}
		if err := m.moveDevices(pid); err != nil {
			return err
		}
	}
	h := m.spec.Hooks
	if h == nil {
		return nil
	}
	m.state.Pid = pid // hooks are told of it
	if err := m.outside(ctx, "prestart", prestart(h), Creating); err != nil {
		return err
	}
	return m.outside(ctx, "createRuntime", h.CreateRuntime, Creating)
}

// restored notes which process it is, before it goes on.
func (m *maker) restored(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	m.init = &engine.Process{Pid: pid, Pidfd: os.NewFile(uintptr(fd), "pidfd")}
	m.state.Pid = 0 // a hook may have been told of it, and nothing is written yet
	return m.note(pid)
}
