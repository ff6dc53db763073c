package criu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

// External is something of the container that criu neither saves nor makes: it
// is there before. Key is its name in the container, Value that in the images;
// for a restore Key is the name in the images, Value the path on this host.
type External struct{ Key, Value string }

// Namespace is one that a container joins by path.
type Namespace struct {
	Kind string // as below /proc/PID/ns
	Path string
}

// Dump is what criu is to be told of a container that it saves.
type Dump struct {
	Pid         int
	Root        string // the path of its root on the host
	Cgroup      string // whose processes are frozen meanwhile, "": they are stopped one by one
	Annotations map[string]string
	Namespaces  []Namespace
	Mounts      []External
	Files       []string // keys of open files that criu must not look for
}

// request decides the message, but for the directories.
func (d *Dump) request(o *Options, version int) (*rpc.CriuReq, error) {
	opts, err := o.common(dumpLog)
	if err != nil {
		return nil, err
	}
	opts.ConfigFile = configFile(d.Annotations)
	opts.Pid, opts.Root = new(int32(d.Pid)), &d.Root
	opts.LeaveRunning, opts.LinkRemap = &o.LeaveRunning, &o.LinkRemap
	opts.TcpSkipInFlight = &o.TCPSkipInFlight
	if d.Cgroup != "" && version >= freezeV2 {
		opts.FreezeCgroup = &d.Cgroup
	}
	if opts.Ps, err = o.pageServer(); err != nil {
		return nil, err
	}
	if o.ParentPath != "" {
		opts.ParentImg, opts.TrackMem = &o.ParentPath, new(true)
	}
	if o.LazyPages && o.StatusFD > 0 && version < statusByNotify {
		opts.StatusFd = new(int32(o.StatusFD))
	}
	if err := d.namespaces(opts, version); err != nil {
		return nil, err
	}
	kind := rpc.CriuReqType_PRE_DUMP
	if !o.PreDump { // only memory, else
		kind = rpc.CriuReqType_DUMP
		opts.ExtMnt = mountMap(d.Mounts)
		opts.External = append(opts.External, d.Files...)
	}
	return &rpc.CriuReq{Type: &kind, Opts: opts}, nil
}

// namespaces: what belongs to the host is named by its inode.
func (d *Dump) namespaces(opts *rpc.CriuOpts, version int) error {
	for _, n := range d.Namespaces {
		if !external(n.Kind) {
			continue
		}
		if err := n.supported(version, "checkpointing process"); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(n.Path, &st); err != nil {
			return &os.PathError{Op: "stat", Path: n.Path, Err: err}
		}
		opts.External = append(opts.External, fmt.Sprintf("%s[%d]:%s", n.Kind, st.Ino, namespaceKey(n.Kind)))
	}
	return nil
}

// external tells of the namespaces that criu leaves alone. Others that a
// container joined are saved, and joined again.
func external(kind string) bool { return kind == "net" || kind == "pid" }

func (n *Namespace) supported(version int, during string) error {
	if n.Kind == "net" && version < externalNet || n.Kind == "pid" && version < externalPID {
		return fmt.Errorf("criu lacks support for external %s namespace during %s (old criu version?)", n.Kind, during)
	}
	return nil
}

// namespaceKey is runc's name for it in the images.
func namespaceKey(kind string) string {
	switch kind {
	case "net":
		return "extRootNetNS"
	default:
		return "extRootPidNS"
	}
}

// Restore is what criu is to be told of a container that it makes.
type Restore struct {
	Root        string // a mount, whose parent is not hidden by another
	Annotations map[string]string
	Namespaces  []Namespace
	// Locked tells that the network namespace is still as criu left it when it
	// saved the container: it lets no packet pass.
	Locked      bool
	Descriptors []string // of the container when it was saved: see descriptorsFile

	// Streams take the place of the pipes and files of the host that were the
	// standard streams. They stay the caller's.
	Streams [maxStreams]*os.File
	Null    *os.File // of the host
}

// request decides the message, but for the directories and what is known when
// criu is there, and the files that it inherits, from firstExtraFile on; what was
// opened for that is in opened.
func (r *Restore) request(o *Options, version int) (req *rpc.CriuReq, extra, opened []*os.File, err error) {
	opts, err := o.common(restoreLog)
	if err != nil {
		return nil, nil, nil, err
	}
	opts.ConfigFile = configFile(r.Annotations)
	opts.Root = &r.Root
	// Its first process becomes our child, not criu's.
	opts.RstSibling, opts.EvasiveDevices = new(true), new(true)
	if o.LSMProfile != "" {
		if version < otherLSMProfile {
			return nil, nil, nil, errors.New("--lsm-profile requires at least CRIU 3.16")
		}
		opts.LsmProfile = &o.LSMProfile
	}
	if o.LSMMountContext != "" {
		if version < otherLSMProfile {
			return nil, nil, nil, errors.New("--lsm-mount-context requires at least CRIU 3.16")
		}
		opts.LsmMountContext = &o.LSMMountContext
	}
	if r.Locked && len(o.EmptyNS) == 0 {
		// Told of a namespace without content criu locks it, once more, and up to
		// 3.17 cannot unlock it then: of two rules it deletes one.
		opts.EmptyNs = new(uint32(0))
	}
	if opened, err = r.join(opts, version); err != nil {
		return nil, nil, opened, err
	}
	extra = r.inherit(opts, opened)
	kind := rpc.CriuReqType_RESTORE
	return &rpc.CriuReq{Type: &kind, Opts: opts}, extra, opened, nil
}

// join opens the namespaces that criu must not look for, and names the others.
func (r *Restore) join(opts *rpc.CriuOpts, version int) (opened []*os.File, err error) {
	for _, n := range r.Namespaces {
		if !external(n.Kind) {
			if n.Kind == "cgroup" {
				return opened, fmt.Errorf("criu cannot join the cgroup namespace %s", n.Path)
			}
			opts.JoinNs = append(opts.JoinNs, &rpc.JoinNamespace{Ns: &n.Kind, NsFile: &n.Path})
			continue
		}
		if err := n.supported(version, "the restoration process"); err != nil {
			return opened, err
		}
		f, err := os.Open(n.Path)
		if err != nil {
			//lint:ignore ST1005 runc's text
			return opened, fmt.Errorf("Requested network namespace %v does not exist: %w", n.Path, err)
		}
		opts.InheritFd = append(opts.InheritFd, &rpc.InheritFd{Key: new(namespaceKey(n.Kind)), Fd: new(int32(firstExtraFile + len(opened)))})
		opened = append(opened, f)
	}
	return opened, nil
}

// inherit gives the standard streams for those that led out of the container.
func (r *Restore) inherit(opts *rpc.CriuOpts, extra []*os.File) []*os.File {
	null := -1
	for i, key := range r.Descriptors {
		fd := i
		switch {
		case isPipe(key) && i < maxStreams:
		case isFile(key) && i < maxStreams:
		case isFile(key):
			if null < 0 {
				null = firstExtraFile + len(extra)
				extra = append(extra, r.Null)
			}
			fd = null
		default:
			continue
		}
		opts.InheritFd = append(opts.InheritFd, &rpc.InheritFd{Key: &key, Fd: new(int32(fd))})
	}
	return extra
}

// common are the options of both directions.
func (o *Options) common(log string) (*rpc.CriuOpts, error) {
	mode, err := o.cgroupMode()
	if err != nil {
		return nil, err
	}
	opts := &rpc.CriuOpts{
		LogLevel: new(int32(verbose)), LogFile: &log, NotifyScripts: new(true),
		ManageCgroups: new(true), ManageCgroupsMode: &mode,
		ShellJob: &o.ShellJob, ExtUnixSk: &o.ExtUnixSk, TcpEstablished: &o.TCPEstablished, FileLocks: &o.FileLocks,
		AutoDedup: &o.AutoDedup, LazyPages: &o.LazyPages, OrphanPtsMaster: new(true),
		// Devices of a network namespace are whose it is that made them.
		EmptyNs: new(uint32(unix.CLONE_NEWNET)),
	}
	return opts, nil
}

// dirs are the directories that criu works in. It finds them by the number that
// they have in this process.
type dirs struct{ image, work *os.File }

// open makes the directory of work files.
func (d *dirs) open(o *Options) (err error) {
	if d.image, err = os.Open(o.ImagePath); err != nil || o.WorkPath == "" {
		return err
	}
	if err = os.Mkdir(o.WorkPath, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
		d.work, err = os.Open(o.WorkPath)
	}
	return err
}

func (d *dirs) in(opts *rpc.CriuOpts) {
	opts.ImagesDirFd = new(int32(d.image.Fd()))
	if d.work != nil {
		opts.WorkDirFd = new(int32(d.work.Fd()))
	}
}

func (d *dirs) close() { closeAll(d.image, d.work) }

func mountMap(list []External) (out []*rpc.ExtMountMap) {
	for _, m := range list {
		out = append(out, &rpc.ExtMountMap{Key: &m.Key, Val: &m.Value})
	}
	return out
}
