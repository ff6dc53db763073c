// Package oci is the face of an OCI runtime: runc's command line over package
// runtime, for containerd, CRI-O, podman and BuildKit, which call a program and
// read what it prints. Commands, flags, formats and error texts are runc's;
// crun's --cgroup-manager and --config are understood, too.
//
// Every command of it is a process of its own that somebody waits for, so
// nothing is set up that the command at hand does not need.
package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-run/berth/runtime"
)

// Version is set by the linker: -X github.com/berth-run/berth/cmd/oci.Version=…
var Version = "0.1.0-dev"

// call is one command line.
type call struct {
	name    string // of the program, as it was called
	path    string // the same with its directory
	stdout  io.Writer
	log     *logger
	store   *runtime.Store
	rootSet bool // by --root
}

// global are the options before the command.
type global struct {
	debug, systemd, version bool
	log, format, rootless   string
	manager, criu           string
	root                    *string // nil: not given
}

// Main runs one command line and returns the exit status of the process.
// args[0] is the program's name.
func Main(args []string) int {
	c := newCall(args[0], os.Stdout, os.Stderr)
	status, err := c.dispatch(args[1:])
	if err == nil {
		return status
	}
	c.log.fatal(err.Error())
	if status <= 0 {
		status = 1
	}
	return status
}

func newCall(path string, stdout io.Writer, stderr *os.File) *call {
	c := &call{name: filepath.Base(path), path: path, stdout: stdout, log: newLogger(stderr)}
	c.store = &runtime.Store{Warn: c.log.warn, Debug: c.log.debugf}
	return c
}

// dispatch reads the global options, finds the command and runs it.
func (c *call) dispatch(args []string) (int, error) {
	var g global
	p, err := parse(globalOptions(&g), args, true)
	if err != nil {
		fmt.Fprintf(c.stdout, "Incorrect Usage. %v\n\n", err)
		c.overview()
		return 1, err
	}
	switch {
	case p.help || len(p.args) == 0 && !g.version:
		c.overview()
		return 0, nil
	case g.version:
		c.version()
		return 0, nil
	}
	if err := c.globals(&g); err != nil {
		return 1, err
	}
	if p.args[0] == "help" || p.args[0] == "h" {
		return c.helpCommand(p.args[1:])
	}
	cmd := c.find(p.args[0])
	if cmd == nil {
		return c.noSuchCommand(p.args[0])
	}
	return c.execute(cmd, p.args[1:])
}

// noSuchCommand: runc takes an unknown word for a topic of its help.
func (c *call) noSuchCommand(word string) (int, error) {
	//lint:ignore ST1005 runc's text
	return 3, fmt.Errorf("No help topic for '%s'", word)
}

func globalOptions(g *global) []option {
	return []option{
		yes("debug", "write debug messages to the log", &g.debug),
		text("log", "FILE", "write the log to FILE and not to stderr", &g.log),
		text("log-format", "FORMAT", "format of the log: text (default) or json", &g.format),
		{names: "root", value: "DIR", about: "keep the state of containers in DIR, which should be on a tmpfs",
			set: func(s string) error { g.root = &s; return nil }},
		yes("systemd-cgroup", "let systemd make the cgroups; cgroupsPath is slice:prefix:name then", &g.systemd),
		text("cgroup-manager", "NAME", "cgroupfs (default), systemd or disabled, as crun has it", &g.manager),
		text("rootless", "BOOL", "ignore that cgroups may not be used: true, false or auto (default)", &g.rootless),
		hidden(text("criu", "FILE", "", &g.criu)),
		yes("version,v", "print the version", &g.version),
	}
}

// globals applies the global options.
func (c *call) globals(g *global) error {
	c.log.debug = g.debug
	if err := c.setRoot(g.root); err != nil {
		return err
	}
	switch g.format {
	case "", "text":
	case "json":
		c.log.json = true
	default:
		return errors.New("invalid log-format: " + g.format)
	}
	if g.log != "" {
		if err := c.log.open(g.log); err != nil {
			return err
		}
	}
	return c.setCgroups(g)
}

// setCgroups chooses who makes cgroups.
func (c *call) setCgroups(g *global) error {
	switch g.manager {
	case "", "cgroupfs":
	case "systemd":
		g.systemd = true
	case "disabled":
		c.store.NoCgroup = true
	default:
		return fmt.Errorf("unknown cgroup manager %q", g.manager)
	}
	c.store.SystemdCgroup = g.systemd
	var err error
	c.store.Rootless, err = rootless(g.rootless)
	return err
}

// execute reads the options of a command and runs it.
func (c *call) execute(cmd *command, args []string) (int, error) {
	p, err := parse(cmd.options, args, cmd.ordered)
	if err != nil {
		fmt.Fprintf(c.stdout, "Incorrect Usage: %v\n\n", err)
		c.commandHelp(cmd)
		return 1, err
	}
	if p.help {
		c.commandHelp(cmd)
		return 0, nil
	}
	if err := c.count(cmd, len(p.args)); err != nil {
		fmt.Fprint(c.stdout, "Incorrect Usage.\n\n")
		c.commandHelp(cmd)
		return 1, err
	}
	if cmd.max != 0 && p.args[0] == "" {
		return 1, errors.New("container id cannot be empty")
	}
	return cmd.run(p.args)
}

func (c *call) count(cmd *command, n int) error {
	switch {
	case cmd.min == cmd.max && n != cmd.min:
		return fmt.Errorf("%s: %q requires exactly %d argument(s)", c.path, cmd.name, cmd.min)
	case n < cmd.min:
		return fmt.Errorf("%s: %q requires a minimum of %d argument(s)", c.path, cmd.name, cmd.min)
	case cmd.max >= 0 && n > cmd.max:
		return fmt.Errorf("%s: %q requires a maximum of %d argument(s)", c.path, cmd.name, cmd.max)
	}
	return nil
}

// container finds the container that a command is about.
func (c *call) container(id string) (*runtime.Container, error) { return c.store.Load(id) }

// failed is the prefix that create and run put before their errors.
func (c *call) failed(what string, err error) error {
	return fmt.Errorf("%s %s failed: %w", strings.TrimSuffix(c.name, " "), what, err)
}
