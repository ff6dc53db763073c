package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime"
)

// image are the options of checkpoint and restore.
type image struct {
	path, work, parent                 string
	tcp, tcpInFlight, linkRemap        bool
	unixSockets, shellJob, locks       bool
	leaveRunning, preDump, dedup, lazy bool
	statusFD                           int
	pageServer, cgroups                string
	lsmProfile, lsmContext             string
	emptyNS                            []string
}

// options are those of both commands.
func (i *image) options() []option {
	return []option{
		text("image-path", "DIR", "directory of criu's image files (default ./checkpoint)", &i.path),
		text("work-path", "DIR", "directory of criu's logs and work files", &i.work),
		yes("tcp-established", "keep open TCP connections", &i.tcp),
		yes("ext-unix-sk", "keep unix sockets that lead out of the container", &i.unixSockets),
		yes("shell-job", "the process belongs to a shell's session", &i.shellJob),
		yes("file-locks", "keep file locks", &i.locks),
		text("manage-cgroups-mode", "MODE", "what criu does about cgroups: soft (default), full, strict or ignore", &i.cgroups),
		list("empty-ns", "NAMESPACE", "make this namespace, but do not restore what is in it", &i.emptyNS),
		yes("auto-dedup", "take duplicates out of memory images", &i.dedup),
		yes("lazy-pages", "restore memory when it is touched (userfaultfd(2))", &i.lazy),
	}
}

func (c *call) checkpointCommand() *command {
	i := &image{statusFD: -1}
	return &command{
		usage: "<container-id>", about: "save the state of a running container with criu",
		min: 1, max: 1,
		options: append(i.options(),
			text("parent-path", "DIR", "image files of an earlier pre-dump, relative to --image-path", &i.parent),
			yes("leave-running", "let the container go on afterwards", &i.leaveRunning),
			yes("tcp-skip-in-flight", "leave out connections that are not established yet", &i.tcpInFlight),
			yes("link-remap", "link files that have been unlinked", &i.linkRemap),
			number("status-fd", "write a 0 byte to this descriptor when --lazy-pages is ready", &i.statusFD),
			text("page-server", "ADDRESS:PORT", "page server that takes the memory", &i.pageServer),
			yes("pre-dump", "save memory only, and let the container go on", &i.preDump)),
		run: func(args []string) (int, error) {
			ctr, err := c.container(args[0])
			if err != nil {
				return 0, err
			}
			s, err := ctr.State()
			if err != nil {
				return 0, err
			}
			if s.Status != runtime.Running && s.Status != runtime.Paused {
				//lint:ignore ST1005 runc's text
				return 0, fmt.Errorf("Container cannot be checkpointed in %s state", s.Status)
			}
			if err := i.check(); err != nil {
				return 0, err
			}
			return 0, errors.New("checkpoint: not available in this build")
		},
	}
}

func (c *call) restoreCommand() *command {
	i, b := &image{}, &begin{}
	return &command{
		usage: "<container-id>", about: "make a container from what checkpoint saved",
		min: 1, max: 1,
		options: append(append(i.options(), b.bundleOptions()...),
			yes("detach,d", "do not wait for the container to end", &b.detach),
			text("lsm-profile", "TYPE:NAME", "profile of a security module for the process", &i.lsmProfile),
			text("lsm-mount-context", "LABEL", "SELinux context of the mounts", &i.lsmContext)),
		run: func([]string) (int, error) {
			if err := i.check(); err != nil {
				return 0, err
			}
			return 0, errors.New("restore: not available in this build")
		},
	}
}

// check finds options that criu cannot follow.
func (i *image) check() error {
	if i.path == "" {
		cwd, err := os.Getwd()
		if err != nil {
			return err
		}
		i.path = filepath.Join(cwd, "checkpoint")
	}
	if err := i.checkParent(); err != nil {
		return err
	}
	if i.pageServer != "" {
		colon := strings.LastIndexByte(i.pageServer, ':')
		if colon <= 0 || colon == len(i.pageServer)-1 {
			//lint:ignore ST1005 runc's text
			return errors.New("Use --page-server ADDRESS:PORT to specify page server")
		}
		if _, err := strconv.ParseUint(i.pageServer[colon+1:], 10, 16); err != nil {
			//lint:ignore ST1005 runc's text
			return errors.New("Invalid port number")
		}
	}
	for _, ns := range i.emptyNS {
		if ns != "network" {
			return fmt.Errorf("namespace %q is not supported", ns)
		}
	}
	return nil
}

func (i *image) checkParent() error {
	if i.parent == "" {
		return nil
	}
	if filepath.IsAbs(i.parent) {
		return errors.New("--parent-path must be relative")
	}
	dir := filepath.Join(i.path, i.parent)
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = &os.PathError{Op: "stat", Path: dir, Err: unix.ENOTDIR}
	}
	if err != nil {
		return fmt.Errorf("invalid --parent-path: %w", err)
	}
	return nil
}
