package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

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
	for _, n := range r.Namespaces {
		r.Locked = r.Locked || n.Kind == "net" && locked(n.Path)
	}
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
	var console, cgroup *os.File
	defer func() { cgroup.Close() }() // of none it is an error, and nothing else
	err = program.Restore(ctx, k, r, criu.Events{
		Start: t.start,
		Started: func(pid int) (err error) {
			cgroup, err = m.enclose(pid)
			return err
		},
		Namespaces: func(pid int) error { return m.restoredNamespaces(ctx, pid) },
		Terminal: func(f *os.File) error {
			console = f
			return nil
		},
		Restored: func(pid int) error { return m.restored(pid, cgroup) },
	})
	if err == nil {
		m.init.Console = console
		return m.made()
	}
	if console != nil {
		console.Close()
	}
	return err
}

// locked tells whether a network namespace has the chain by which criu lets
// nothing pass. The program is one that criu needs itself.
func locked(netns string) bool {
	return onOwnThread(func() error {
		f, err := os.Open(netns)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return exec.Command("iptables", "-w", "-n", "-L", "CRIU").Run()
	}) == nil
}

// enclose puts criu into the container's cgroup, and its group of resctrl: what it clones begins there. A
// scope of systemd takes criu as its first process. nil: there is none.
func (m *maker) enclose(pid int) (*os.File, error) {
	if m.config.Resctrl != nil { // children begin in their parent's group
		if err := m.config.Resctrl.Enter(pid); err != nil {
			return nil, err
		}
	}
	if m.config.Cgroup == nil {
		return nil, nil
	}
	held := false
	dir, err := m.config.Cgroup.Apply(func() (int, error) {
		held = true
		return pid, nil
	})
	if err != nil || dir == nil {
		return nil, err
	}
	if m.state.Cgroup = m.cgroupState(); !held {
		if err := m.cgroup.Attach(pid, ""); err != nil {
			return dir, fmt.Errorf("put criu into the container's cgroup: %w", err)
		}
	}
	return dir, nil
}

// restoredNamespaces is called when the namespaces are there and nothing is in
// them: of a network namespace of the container's own criu has restored nothing.
func (m *maker) restoredNamespaces(ctx context.Context, pid int) error {
	if own(m.spec.Linux, specs.NetworkNamespace) {
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

// restored notes which process it is, before it goes on. The filter of devices
// comes now: criu had to make and to open what the container may not.
func (m *maker) restored(pid int, cgroup *os.File) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	m.init = &engine.Process{Pid: pid, Pidfd: os.NewFile(uintptr(fd), "pidfd")}
	m.state.Pid = 0 // a hook may have been told of it, and nothing is written yet
	if err := m.note(pid); err != nil {
		return err
	}
	if cgroup != nil && len(m.config.Devices) > 0 {
		return cgroups.DeviceFilter(cgroup, m.config.Devices)
	}
	return nil
}
