package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/criu"
)

// CheckpointOptions are those of Checkpoint and Restore.
type CheckpointOptions = criu.Options

// Checkpoint saves the processes of a container with criu. The container ends,
// if it is not to go on, and is not deleted.
func (c *Container) Checkpoint(ctx context.Context, o CheckpointOptions) error {
	status, err := c.status()
	if err != nil {
		return err
	}
	if status != Running && status != Paused {
		return fmt.Errorf("Container cannot be checkpointed in %s state", status)
	}
	if err := o.Check(); err != nil {
		return err
	}
	spec, err := c.Spec()
	if err != nil {
		return err
	}
	if err := normalise(spec, c.state.Bundle); err != nil {
		return err
	}
	program, err := c.store.criu(ctx)
	if err != nil {
		return err
	}
	d := &criu.Dump{Pid: c.state.Pid, Root: c.state.Rootfs, Cgroup: c.state.Cgroup.Dir, Annotations: spec.Annotations, Namespaces: joined(spec)}
	var descriptors []string
	if !o.PreDump { // which saves memory alone
		if d.Mounts, err = c.externalMounts(spec); err != nil {
			return err
		}
		if descriptors, d.Files, err = c.externalFiles(); err != nil {
			return err
		}
	}
	if err := program.Dump(ctx, &o, d, descriptors); err != nil {
		return errors.Join(err, c.thaw(status))
	}
	return nil
}

func (s *Store) criu(ctx context.Context) (*criu.Criu, error) {
	p, err := criu.Find(ctx)
	if err != nil {
		return nil, err
	}
	p.Warn, p.Debug = s.warn, s.debug
	return p, nil
}

// thaw lets a container go on that a criu which was killed has frozen.
func (c *Container) thaw(before string) error {
	dir := c.state.Cgroup.Dir
	if before == Paused || dir == "" {
		return nil
	}
	if frozen, err := cgroups.Frozen(dir); err != nil || !frozen {
		return err
	}
	return cgroups.Freeze(dir, false)
}

// joined are the namespaces that are not the container's own.
func joined(s *specs.Spec) (out []criu.Namespace) {
	kinds := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.MountNamespace: "mnt"}
	for _, n := range s.Linux.Namespaces {
		if n.Path == "" {
			continue
		}
		kind, other := kinds[n.Type]
		if !other {
			kind = string(n.Type)
		}
		out = append(out, criu.Namespace{Kind: kind, Path: n.Path})
	}
	return out
}

// streams are the pipes among the standard streams, as descriptors.json names
// them: who restores the container has others in their place. That is noted when
// they are given, for later the process may have others itself.
func streams(files ...*os.File) (out []string) {
	for i, f := range files {
		var st unix.Stat_t
		var fs unix.Statfs_t
		if f == nil || unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO ||
			unix.Fstatfs(int(f.Fd()), &fs) != nil || fs.Type != unix.PIPEFS_MAGIC { // others have a path
			continue
		}
		if out == nil {
			out = make([]string, len(files))
		}
		out[i] = "pipe:[" + strconv.FormatUint(st.Ino, 10) + "]"
	}
	return out
}

// externalFiles finds what the container's processes have open of the host, and
// what takes its place when they are restored: descriptors are the streams of the
// first process (criu.Restore.Descriptors), keys are criu's names.
func (c *Container) externalFiles() (descriptors, keys []string, err error) {
	own, err := c.mounts()
	if err != nil {
		return nil, nil, err
	}
	descriptors = make([]string, 3)
	for i := range descriptors {
		path := fmt.Sprintf("/proc/%d/fd/%d", c.state.Pid, i)
		if descriptors[i], err = os.Readlink(path); err != nil {
			descriptors[i] = "" // closed
			continue
		}
		if key := hostFile(c.state.Pid, i, own, false); key != "" {
			descriptors[i], keys = key, append(keys, key)
		}
	}
	for i, s := range c.state.Streams {
		if s != "" && i < len(descriptors) {
			descriptors[i] = s
		}
	}
	pids, err := c.Processes()
	if err != nil {
		return nil, nil, err
	}
	known := map[string]bool{}
	for _, k := range keys {
		known[k] = true
	}
	for _, pid := range pids {
		for _, fd := range openFiles(pid) {
			if key := hostFile(pid, fd, own, true); key != "" && !known[key] {
				known[key] = true
				descriptors, keys = append(descriptors, key), append(keys, key)
			}
		}
	}
	return descriptors, keys, nil
}

// openFiles are the descriptors of a process; none of one that has ended.
func openFiles(pid int) (out []int) {
	d, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		if fd, err := strconv.Atoi(n); err == nil {
			out = append(out, fd)
		}
	}
	return out
}

// hostFile is criu's name for an open file that lies on no mount of the container,
// "" for others. With null it is asked for the host's /dev/null alone.
func hostFile(pid, fd int, own mountTable, null bool) string {
	var st unix.Stat_t
	link := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
	if unix.Stat(link, &st) != nil {
		return ""
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3): // a terminal is criu's own matter
	case null:
		return ""
	case kind == unix.S_IFIFO:
		if to, err := os.Readlink(link); err != nil || !strings.HasPrefix(to, "/") { // a pipe
			return ""
		}
	case kind != unix.S_IFREG:
		return ""
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return ""
	}
	mount := fdinfoMount(string(b))
	if mount < 0 || own.has(mount) {
		return ""
	}
	return criu.FileKey(mount, st.Ino)
}

// fdinfoMount reads /proc/PID/fdinfo/N (proc_pid_fdinfo(5)), -1 if it does not say.
func fdinfoMount(fdinfo string) int {
	for line := range strings.Lines(fdinfo) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil {
				return n
			}
		}
	}
	return -1
}
