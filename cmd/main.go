package cmd

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/container"
	"github.com/berth-run/berth/image"
)

// Version is set by the linker: -X github.com/berth-run/berth/cmd.Version=…
var Version = "0.1.0-dev"

// NeedRegistry is what Main returns instead of an exit code when it was called
// without a registry and the command needs one. Nothing has been done then.
const NeedRegistry = -1

const defaultRoot = "/var/lib/berth"

// Registry brings images from elsewhere, and takes them there.
type Registry interface {
	Pull(ctx context.Context, s *image.Store, ref string, o PullOptions) (*image.Image, error)
	Push(ctx context.Context, s *image.Store, ref string, o PullOptions) (digest string, err error)
}

// PullOptions are the flags of pull and push.
type PullOptions struct {
	Platform string            // os/arch[/variant]; "" is this machine
	Insecure bool              // plain http and unknown certificates
	Progress func(line string) // may be called from several goroutines
}

// app is one call of the binary.
type app struct {
	reg    Registry // nil in the light start
	root   string   // state root, absolute
	debug  bool
	began  time.Time // for --debug
	out    *results
	errw   io.Writer
	images *image.Store
	store  *container.Store
}

// errNeedRegistry travels up to Main, which returns NeedRegistry.
var errNeedRegistry = errors.New("needs the registry client")

// Main runs one command line and returns the exit code of the process. args[0]
// is the program's own name.
func Main(args []string, reg Registry) int {
	a := &app{reg: reg, out: &results{w: os.Stdout}, errw: os.Stderr, began: time.Now()}
	err := a.dispatch(args[1:])
	if err == errNeedRegistry && reg == nil {
		return NeedRegistry
	}
	code := a.report(err)
	a.debugf("exit code %d", code)
	if a.out.err != nil && code == 0 {
		return a.report(fail("write to stdout: "+a.out.err.Error(), ""))
	}
	return code
}

// results is stdout: only what was asked for, and the first error is kept.
type results struct {
	w   io.Writer
	err error
}

func (r *results) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n, err
}

// dispatch finds the command, reads its flags and runs it.
func (a *app) dispatch(args []string) error {
	global, err := parse(globalFlags(), args, true)
	if err != nil {
		return badUsage(err, "berth")
	}
	if err := a.globals(global); err != nil {
		return err
	}
	rest := global.args
	if global.help || len(rest) == 0 {
		return a.overview()
	}
	if rest[0] == "help" {
		return a.help(rest[1:])
	}
	e, path, rest, err := find(table(), rest)
	if err != nil {
		return err
	}
	if e.sub != nil { // a group without a command of its own
		return a.groupHelp(e, path)
	}
	return a.runEntry(e, path, rest)
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		text("root", "dir", "folder for images, containers and volumes (env BERTH_ROOT, default "+defaultRoot+")"),
		yes("debug,D", "tell more on stderr"),
		yes("version,v", "print the version"),
	}
}

func (a *app) globals(p *parsed) error {
	a.root = defaultRoot
	if r := os.Getenv("BERTH_ROOT"); r != "" {
		a.root = r
	}
	for _, v := range p.values {
		switch v.name {
		case "root":
			a.root = v.value
		case "debug":
			a.debug = v.value == "true"
		case "version":
			p.args = []string{"version"}
		}
	}
	if a.root == "" {
		return fail("--root is empty", "berth --root /var/lib/berth ps")
	}
	return nil
}

// runEntry hands the normalised arguments to urfave/cli. Only the flags that
// occur are declared to it: absent ones read as zero values, and declaring a
// hundred of them costs more than all the rest of parsing.
func (a *app) runEntry(e *entry, path string, args []string) error {
	cmd := e.build(a)
	p, err := parse(cmd.Flags, args, e.literal)
	if err != nil {
		return badUsage(err, path)
	}
	if p.help {
		return a.commandHelp(cmd, path)
	}
	if n := len(p.args); n < e.min || e.max >= 0 && n > e.max {
		return badCount(path, e, n)
	}
	cmd.Flags, cmd.HideHelp, cmd.Name = p.used, true, e.name
	root := &cli.App{
		Name: "berth", HideHelp: true, HideVersion: true, Commands: []*cli.Command{cmd},
		DisableSliceFlagSeparator: true, Writer: a.out, ErrWriter: a.errw,
		ExitErrHandler: func(*cli.Context, error) {},
	}
	argv := append([]string{"berth", e.name}, p.flags()...)
	return root.Run(append(append(argv, "--"), p.args...))
}

// open opens both stores. Nothing is created by it.
func (a *app) open() error {
	if err := needRoot(); err != nil {
		return err
	}
	// resolv.conf, volumes and mount points are for the users in the container:
	// the caller's umask has no say in them
	unix.Umask(0o022)
	var err error
	if a.images, err = image.Open(a.root); err != nil {
		return err
	}
	a.store, err = container.Open(a.root, a.images)
	return err
}
