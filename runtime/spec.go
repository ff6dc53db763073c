package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/seccomp"
)

// normalise checks what the engine takes for granted and makes paths of the
// bundle absolute.
func normalise(s *specs.Spec, bundle string) error {
	switch {
	case s.Version == "":
		return errors.New("the configuration has no ociVersion")
	case !strings.HasPrefix(s.Version, "1."):
		return fmt.Errorf("ociVersion %s of the configuration is not supported: 1.x is", s.Version)
	case s.Root == nil || s.Root.Path == "":
		return errors.New("the configuration has no root.path")
	case s.Process == nil:
		return errors.New("the configuration has no process")
	case s.Process.Cwd == "":
		return errors.New("process.cwd must not be empty")
	case !filepath.IsAbs(s.Process.Cwd):
		return fmt.Errorf("process.cwd %q is not an absolute path", s.Process.Cwd)
	case len(s.Process.Args) == 0:
		return errors.New("process.args must not be empty")
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	if !filepath.IsAbs(s.Root.Path) {
		s.Root.Path = filepath.Join(bundle, s.Root.Path)
	}
	// The kernel's own words for it, not a link's: the root becomes a mount.
	path, err := filepath.EvalSymlinks(s.Root.Path)
	if err != nil {
		return fmt.Errorf("invalid rootfs: %w", err)
	}
	if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
		return fmt.Errorf("invalid rootfs: %s is not a directory", path)
	}
	s.Root.Path = path
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind") {
			if !filepath.IsAbs(m.Source) {
				m.Source = filepath.Join(bundle, m.Source)
			}
		}
	}
	return nil
}

// decide turns the spec into what the engine needs. It touches nothing.
func (m *maker) decide(ctx context.Context) (engine.Config, error) {
	s := m.spec
	c := engine.Config{ID: m.ID, Spec: s, Rootfs: rootfs.Bundle{Path: s.Root.Path},
		Stdin: m.o.Stdin, Stdout: m.o.Stdout, Stderr: m.o.Stderr,
		PlainLF: m.o.ConsoleSocket == "", NoPivot: m.o.NoPivot, NoNewKeyring: m.o.NoNewKeyring, PreserveFDs: m.o.PreserveFDs,
		Cloned: m.cloned, Map: m.mapIDs()}
	if err := m.decideCgroup(&c); err != nil {
		return c, err
	}
	err := checkDevices(s.Linux, m.store.Rootless)
	if err != nil {
		return c, err
	}
	if c.Seccomp, err = seccomp.Compile(s.Linux.Seccomp, goruntime.GOARCH); err != nil {
		return c, fmt.Errorf("seccomp: %w", err)
	}
	m.store.filterFlags(c.Seccomp)
	if c.Seccomp != nil && c.Seccomp.Notify {
		c.Notify = m.sendListener
	}
	if c.Labels, err = labels(s.Process.ApparmorProfile, s.Process.SelinuxLabel); err != nil {
		return c, err
	}
	if h := s.Hooks; h != nil && len(prestart(h))+len(h.CreateRuntime)+len(h.CreateContainer) > 0 {
		c.Mounted = func(pid int) error { return m.mountedHooks(ctx, pid) }
	}
	if s.Linux.IntelRdt != nil {
		if err := m.decideResctrl(&c); err != nil {
			return c, err
		}
	}
	c.NoSetgroups = m.state.NoSetgroups
	setHome(s.Process, s.Root.Path)
	return c, nil
}

// filterFlags tells of the flags with which a filter is set.
func (s *Store) filterFlags(f *seccomp.Filter) {
	if f == nil {
		return
	}
	flags := f.Flags &^ unix.SECCOMP_FILTER_FLAG_TSYNC // of no meaning for a process with one thread
	if f.Notify {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	s.debug("seccomp filter flags: %d", flags)
}

func (m *maker) decideCgroup(c *engine.Config) error {
	s := m.spec
	if m.store.NoCgroup {
		return nil
	}
	limits, err := cgroups.FromResources(s.Linux.Resources)
	if err != nil {
		return err
	}
	m.store.ignored(limits)
	m.cgroup, err = cgroups.New(cgroups.Request{ID: m.ID, Path: s.Linux.CgroupsPath, Limits: limits, Owner: cgroupOwner(s),
		Rootless: m.store.Rootless, Systemd: m.store.SystemdCgroup, Annotations: s.Annotations})
	if err != nil {
		return err
	}
	m.state.Cgroup = m.cgroup.State()
	c.Cgroup = &applying{Manager: m.cgroup}
	if !m.store.Rootless {
		c.Devices = limits.Devices
	}
	return nil
}

// cgroupOwner is the container's root, if it may write to its cgroup: it sees it
// alone, and the mount is not read-only.
func cgroupOwner(s *specs.Spec) *int {
	if !own(s.Linux, specs.UserNamespace) || !own(s.Linux, specs.CgroupNamespace) {
		return nil
	}
	for _, m := range s.Mounts {
		if (m.Type == "cgroup" || m.Type == "cgroup2") && !slices.Contains(m.Options, "ro") {
			if id := engine.HostID(s.Linux.UIDMappings, 0); id >= 0 {
				return &id
			}
		}
	}
	return nil
}

// labels: what the kernel has no module for is an error, and never silence.
func labels(apparmor, selinux string) (engine.Labels, error) {
	var l engine.Labels
	if apparmor != "" && apparmor != "unconfined" {
		b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
		if err != nil || len(b) == 0 || b[0] != 'Y' {
			return l, fmt.Errorf("apparmor profile %q is asked for, and AppArmor is not enabled on this host", apparmor)
		}
		l.ExecFile, l.Exec = "/proc/self/attr/apparmor/exec", "exec "+apparmor
		if _, err := os.Stat("/proc/self/attr/apparmor"); err != nil { // before Linux 5.1
			l.ExecFile = "/proc/self/attr/exec"
		}
	}
	if selinux != "" {
		if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
			return l, fmt.Errorf("selinux label %q is asked for, and SELinux is not enabled on this host", selinux)
		}
		l.ExecFile, l.Exec = "/proc/self/attr/exec", selinux
		l.KeyFile, l.Key = "/proc/self/attr/keycreate", selinux
	}
	return l, nil
}
