// Package criu has the program criu(8) save the processes of a container, or
// make processes of what was saved. What is asked of it is decided as data
// (Dump, Restore), then a conversation over a socket does it (Criu).
package criu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

// Options are the caller's wishes. Some are for one of the two directions only.
type Options struct {
	ImagePath  string // directory of the images
	WorkPath   string // of logs and of what criu leaves behind; "": ImagePath
	ParentPath string // images of a pre-dump before, relative to ImagePath

	LeaveRunning    bool // the container goes on after it was saved
	PreDump         bool // memory only, and the container goes on
	TCPEstablished  bool
	TCPSkipInFlight bool
	LinkRemap       bool
	ExtUnixSk       bool
	ShellJob        bool
	FileLocks       bool
	AutoDedup       bool
	LazyPages       bool

	StatusFD      int    // gets a 0 byte when lazy pages can be fetched; 0 or less: none
	PageServer    string // ADDRESS:PORT
	ManageCgroups string // soft, full, strict, ignore; "": criu's default
	EmptyNS       []string

	LSMProfile      string // TYPE:NAME
	LSMMountContext string
}

// The logs are named as those of runc, whose callers look for them.
const (
	dumpLog    = "dump.log"
	restoreLog = "restore.log"
)

// Versions of criu from which on it can do something, as Version has them.
const (
	minVersion      = 30000 // it tells its version over the socket
	externalNet     = 31100
	freezeV2        = 31400 // knows the freezer of cgroup v2
	externalPID     = 31500
	statusByNotify  = 31500
	otherLSMProfile = 31600
)

const (
	maxStreams     = 3
	firstExtraFile = 4 // behind the standard streams and the socket
	verbose        = 4 // log level: all but debugging
)

// Check finds what criu cannot follow, and makes the directory of the images.
func (o *Options) Check() error {
	if err := os.MkdirAll(o.ImagePath, 0o700); err != nil {
		return err
	}
	if err := o.checkParent(); err != nil {
		return err
	}
	if _, err := o.pageServer(); err != nil {
		return err
	}
	for _, ns := range o.EmptyNS {
		if ns != "network" {
			return fmt.Errorf("namespace %q is not supported", ns)
		}
	}
	_, err := o.cgroupMode()
	return err
}

func (o *Options) checkParent() error {
	if o.ParentPath == "" {
		return nil
	}
	if filepath.IsAbs(o.ParentPath) {
		return errors.New("--parent-path must be relative")
	}
	dir := filepath.Join(o.ImagePath, o.ParentPath)
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = &os.PathError{Op: "stat", Path: dir, Err: unix.ENOTDIR}
	}
	if err != nil {
		return fmt.Errorf("invalid --parent-path: %w", err)
	}
	return nil
}

// pageServer is nil where there is none. The address may be IPv6, in brackets.
func (o *Options) pageServer() (*rpc.CriuPageServerInfo, error) {
	if o.PageServer == "" {
		return nil, nil
	}
	i := strings.LastIndexByte(o.PageServer, ':')
	if i <= 0 || i == len(o.PageServer)-1 {
		//lint:ignore ST1005 runc's text
		return nil, errors.New("Use --page-server ADDRESS:PORT to specify page server")
	}
	address := strings.TrimSuffix(strings.TrimPrefix(o.PageServer[:i], "["), "]")
	port, err := strconv.ParseUint(o.PageServer[i+1:], 10, 16)
	if err != nil {
		//lint:ignore ST1005 runc's text
		return nil, errors.New("Invalid port number")
	}
	return &rpc.CriuPageServerInfo{Address: &address, Port: new(int32(port))}, nil
}

func (o *Options) cgroupMode() (rpc.CriuCgMode, error) {
	switch o.ManageCgroups {
	case "":
		return rpc.CriuCgMode_DEFAULT, nil
	case "soft":
		return rpc.CriuCgMode_SOFT, nil
	case "full":
		return rpc.CriuCgMode_FULL, nil
	case "strict":
		return rpc.CriuCgMode_STRICT, nil
	case "ignore":
		return rpc.CriuCgMode_IGNORE, nil
	}
	return 0, errors.New("invalid manage-cgroups-mode value")
}

// LogDir is where the log of criu is.
func (o *Options) LogDir() string {
	if o.WorkPath != "" {
		return o.WorkPath
	}
	return o.ImagePath
}

// configFile is the file of further options that criu reads, in which an
// administrator overrules what we ask for; nil: none.
func configFile(annotations map[string]string) *string {
	file, ok := annotations["org.criu.config"]
	switch {
	case !ok:
		file = "/etc/criu/runc.conf" // runc's, whose place we take
	case file == "":
		return nil
	}
	return &file
}
