package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime"
)

// begin is what create, run and restore have in common.
type begin struct {
	bundle, config                  string
	console, pidfd, pidFile         string
	noPivot, noKeyring, noSubreaper bool
	preserve                        int
	detach                          bool
}

// bundleOptions are the flags of create and run.
func (b *begin) bundleOptions() []option {
	return append(b.restoreOptions(),
		yes("no-new-keyring", "leave the process in the caller's session keyring", &b.noKeyring),
		number("preserve-fds", "pass N descriptors beyond the standard streams and those of $LISTEN_FDS", &b.preserve))
}

// restoreOptions are those of them that restore has, too.
func (b *begin) restoreOptions() []option {
	return []option{
		text("bundle,b", "DIR", "the bundle; by default the current directory", &b.bundle),
		text("config,f", "FILE", "the configuration, if it is not the bundle's "+configFile, &b.config),
		text("console-socket", "PATH", "AF_UNIX socket that receives the master of the terminal", &b.console),
		text("pidfd-socket", "PATH", "AF_UNIX socket that receives a pidfd of the container's first process", &b.pidfd),
		text("pid-file", "FILE", "write the pid of the first process to this file", &b.pidFile),
		yes("no-pivot", "change the root with MS_MOVE and not pivot_root(2): for a root file system on a ramdisk", &b.noPivot),
		yes("no-subreaper", "do not adopt the container's orphans", &b.noSubreaper),
	}
}

func (c *call) createCommand() *command {
	b := &begin{detach: true}
	return &command{
		usage: "<container-id>", about: "create a container",
		more: "The container waits: start executes its program. The id must be unique below --root.",
		min:  1, max: 1,
		options: b.bundleOptions(),
		run: func(args []string) (int, error) {
			if err := c.create(args[0], b); err != nil {
				return 1, c.failed("create", err)
			}
			return 0, nil
		},
	}
}

func (c *call) create(id string, b *begin) error {
	o, err := c.createOptions(b)
	if err != nil {
		return err
	}
	_, err = c.store.Create(context.Background(), id, *o)
	return err
}

// createOptions goes to the bundle's directory, as runc does, and reads it.
// Only the pid file's path is the caller's; others are relative to the bundle.
func (c *call) createOptions(b *begin) (*runtime.CreateOptions, error) {
	pidFile, err := absolute(b.pidFile)
	if err != nil {
		return nil, err
	}
	config, err := absolute(b.config)
	if err != nil {
		return nil, err
	}
	if b.bundle != "" {
		if err := os.Chdir(b.bundle); err != nil {
			return nil, err
		}
	}
	bundle, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if config == "" {
		config = configFile
	}
	spec, text, err := runtime.ReadSpec(config)
	if err != nil {
		return nil, err
	}
	if err := checkProcess(spec.Process); err != nil {
		return nil, err
	}
	if err := c.checkTerminal(spec.Process, b.console, b.detach); err != nil {
		return nil, err
	}
	fds, err := passed(spec.Process, b.preserve)
	if err != nil {
		return nil, err
	}
	o := &runtime.CreateOptions{Bundle: bundle, Spec: spec, Text: text, ConsoleSocket: b.console, PidfdSocket: b.pidfd, PidFile: pidFile,
		NoPivot: b.noPivot, NoNewKeyring: b.noKeyring, PreserveFDs: fds}
	if os.Getenv(notifyEnv) != "" {
		o.Prepare = prepareNotify
	}
	if !spec.Process.Terminal {
		o.Stdin, o.Stdout, o.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	return o, nil
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// checkTerminal refuses what leaves a terminal without a holder of its master,
// and a socket that nothing would be sent to.
func (c *call) checkTerminal(p *specs.Process, socket string, detach bool) error {
	if detach && p.Terminal && socket == "" {
		return fmt.Errorf("cannot allocate tty if %s will detach without setting console socket", c.name)
	}
	if socket != "" && !(detach && p.Terminal) {
		return fmt.Errorf("cannot use console socket if %s will not detach or allocate tty", c.name)
	}
	return nil
}

// passed counts the descriptors that the process gets beyond its streams: first
// those of a systemd socket unit (sd_listen_fds(3)), of which it is told, then
// those of --preserve-fds.
func passed(p *specs.Process, preserve int) (int, error) {
	if preserve < 0 {
		return 0, errors.New("preserve-fds must not be negative")
	}
	listen := 0
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err == nil && pid == os.Getpid() {
		if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err == nil && n > 0 {
			listen = n
			p.Env = append(p.Env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_PID=1")
		}
	}
	return listen + preserve, checkDescriptors(3+listen, preserve)
}

func checkDescriptors(first, n int) error {
	for i := range n {
		if _, err := unix.FcntlInt(uintptr(first+i), unix.F_GETFD, 0); err != nil {
			return fmt.Errorf("unable to stat preserved-fd %d (of %d): %w", i, n, err)
		}
	}
	return nil
}
