package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

// Criu is the program.
type Criu struct {
	Version int // 31701 is 3.17.1

	Warn  func(format string, args ...any)
	Debug func(format string, args ...any)
}

// Find asks the criu in $PATH for its version.
func Find(ctx context.Context) (*Criu, error) {
	v, err := version(ctx)
	if err != nil {
		return nil, fmt.Errorf("CRIU version check failed: %w", err)
	}
	if v < minVersion {
		return nil, fmt.Errorf("CRIU version %d must be %d or higher", v, minVersion)
	}
	none := func(string, ...any) {}
	return &Criu{Version: v, Warn: none, Debug: none}, nil
}

func version(ctx context.Context) (int, error) {
	resp, err := single(ctx, &rpc.CriuReq{Type: rpc.CriuReqType_VERSION.Enum()})
	if err != nil {
		return 0, err
	}
	v := resp.GetVersion()
	n := int(v.GetMajorNumber())*10000 + int(v.GetMinorNumber())*100 + int(v.GetSublevel())
	if v.GetGitid() != "" { // made of sources after that version
		n = n - n%100 + 100
	}
	return n, nil
}

// single asks a criu of its own for something without notifications.
func single(ctx context.Context, req *rpc.CriuReq) (*rpc.CriuResp, error) {
	s, err := begin(ctx, [maxStreams]*os.File{}, nil, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.ask(req, nil)
	s.end() // it has answered
	return resp, err
}

// need finds out whether criu and this kernel can do what was asked for.
func (c *Criu) need(ctx context.Context, o *Options) error {
	want := &rpc.CriuFeatures{}
	switch {
	case o.PreDump:
		want.MemTrack = new(true)
	case o.LazyPages:
		want.LazyPages = new(true)
	default:
		return nil
	}
	resp, err := single(ctx, &rpc.CriuReq{Type: rpc.CriuReqType_FEATURE_CHECK.Enum(), Features: want})
	if err != nil {
		return fmt.Errorf("CRIU feature check failed: %w", err)
	}
	var missing []string
	has := resp.GetFeatures()
	if want.GetMemTrack() && !has.GetMemTrack() {
		missing = append(missing, "MemTrack")
	}
	if want.GetLazyPages() && !has.GetLazyPages() {
		missing = append(missing, "LazyPages")
	}
	if len(missing) > 0 {
		return fmt.Errorf("criu is missing features: %v", missing)
	}
	return nil
}

// Dump saves a container. descriptors are those of its first process: see
// descriptorsFile.
func (c *Criu) Dump(ctx context.Context, o *Options, d *Dump, descriptors []string) error {
	if err := c.need(ctx, o); err != nil {
		return err
	}
	if err := o.checkStatusFD(); err != nil {
		return err
	}
	req, err := d.request(o, c.Version)
	if err != nil {
		return err
	}
	var at dirs
	defer at.close()
	if err := at.open(o); err != nil {
		return err
	}
	at.in(req.Opts)
	if !o.PreDump {
		if err := writeDescriptors(o.ImagePath, descriptors); err != nil {
			return err
		}
	}
	s, err := begin(ctx, [maxStreams]*os.File{}, nil, nil)
	if err != nil {
		return err
	}
	c.Debug("criu %d: %s of process %d into %s", c.Version, req.GetType(), d.Pid, o.ImagePath)
	_, err = s.ask(req, func(n *rpc.CriuNotify, f *os.File) error {
		closeAll(f)
		c.Debug("criu: %s", n.GetScript())
		if n.GetScript() == "status-ready" {
			return o.ready()
		}
		return nil
	})
	return c.result(s, req, o, dumpLog, err)
}

// checkStatusFD: a mistake would be seen only by whoever waits at the other end.
func (o *Options) checkStatusFD() error {
	if !o.LazyPages || o.StatusFD <= 0 {
		return nil
	}
	flags, err := unix.FcntlInt(uintptr(o.StatusFD), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("invalid --status-fd argument %d: %w", o.StatusFD, err)
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return fmt.Errorf("invalid --status-fd argument %d: not writable", o.StatusFD)
	}
	return nil
}

// ready tells that pages can be fetched.
func (o *Options) ready() error {
	if o.StatusFD <= 0 {
		return nil
	}
	_, err := unix.Write(o.StatusFD, []byte{0})
	unix.Close(o.StatusFD)
	o.StatusFD = 0
	if err != nil {
		return fmt.Errorf("tell --status-fd: %w", err)
	}
	return nil
}

// Events are called while a container is restored.
type Events struct {
	// Start calls begin in the mount namespace that criu is to start in, and gives
	// the container's external mounts.
	Start func(begin func() error) ([]External, error)
	// Started is called with the pid of criu, whose cgroup the container's
	// processes begin in, before it begins.
	Started func(pid int) error
	// Namespaces are there, and nothing in them: pid is in them.
	Namespaces func(pid int) error
	// Terminal of the first process; to be closed by what is called.
	Terminal func(master *os.File) error
	// Restored is called when all is done and the processes have not gone on yet.
	Restored func(pid int) error
}

// Restore makes a container of what Dump saved. Its first process is a child of
// the caller.
func (c *Criu) Restore(ctx context.Context, o *Options, r *Restore, e Events) (err error) {
	if r.Descriptors, err = readDescriptors(o.ImagePath); err != nil {
		return err
	}
	req, extra, opened, err := r.request(o, c.Version)
	defer closeAll(opened...)
	if err != nil {
		return err
	}
	var at dirs
	defer at.close()
	s, err := begin(ctx, r.Streams, extra, func(cmd *exec.Cmd) error {
		mounts, err := e.Start(func() error {
			// Opened outside of criu's mount namespace they would be places where it
			// cannot mount anything (EINVAL).
			if err := at.open(o); err != nil {
				return err
			}
			return cmd.Start()
		})
		req.Opts.ExtMnt = mountMap(mounts)
		return err
	})
	if err != nil {
		return err
	}
	at.in(req.Opts)
	if req.Opts.CgRoot, err = begins(s.cmd.Process.Pid, e.Started); err == nil {
		c.Debug("criu %d: %s from %s", c.Version, req.GetType(), o.ImagePath)
		_, err = s.ask(req, func(n *rpc.CriuNotify, f *os.File) error { return c.restoring(n, f, e) })
	}
	return c.result(s, req, o, restoreLog, err)
}

// begins puts criu into the container's cgroup and tells where that is.
func begins(pid int, started func(int) error) ([]*rpc.CgroupRoot, error) {
	if err := started(pid); err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup of criu: %w", err)
	}
	return cgroupRoots(string(b)), nil
}

// cgroupRoots reads /proc/PID/cgroup (cgroups(7)). The one of v2 has no name.
func cgroupRoots(file string) (out []*rpc.CgroupRoot) {
	for line := range strings.Lines(file) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			out = append(out, &rpc.CgroupRoot{Ctrl: &name, Path: &f[2]})
		}
	}
	return out
}

func (c *Criu) restoring(n *rpc.CriuNotify, f *os.File, e Events) error {
	c.Debug("criu: %s", n.GetScript())
	pid := int(n.GetPid())
	switch n.GetScript() {
	case "setup-namespaces":
		return e.Namespaces(pid)
	case "orphan-pts-master":
		if f == nil {
			return errors.New("criu sent no terminal")
		}
		return e.Terminal(f)
	case "post-restore":
		return e.Restored(pid)
	}
	closeAll(f)
	return nil
}

// result waits for criu and tells what went wrong, of which its log says more.
func (c *Criu) result(s *session, req *rpc.CriuReq, o *Options, log string, err error) error {
	ended := s.end()
	// After a pre-dump it would wait for the next one, and calls our leaving an error.
	if err == nil && ended != nil && req.GetType() != rpc.CriuReqType_PRE_DUMP {
		err = fmt.Errorf("criu failed: %w", ended)
	}
	if err == nil {
		return nil
	}
	return c.explain(err, o.LogDir()+"/"+log)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
