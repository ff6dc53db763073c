package oci

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// command is one command of the program.
type command struct {
	name, usage, about string
	more               string // a paragraph for its help
	options            []option
	min, max           int  // number of arguments; max -1: any
	ordered            bool // options end at the first argument: what follows is not ours
	run                func(args []string) (status int, err error)
}

// entry builds a command when it is asked for.
type entry struct {
	name  string
	build func(*call) *command
}

// commands in the order of help.
func commands() []entry {
	return []entry{
		{"checkpoint", (*call).checkpointCommand}, {"create", (*call).createCommand}, {"delete", (*call).deleteCommand},
		{"events", (*call).eventsCommand}, {"exec", (*call).execCommand}, {"features", (*call).featuresCommand},
		{"kill", (*call).killCommand}, {"list", (*call).listCommand}, {"pause", (*call).pauseCommand},
		{"ps", (*call).psCommand}, {"restore", (*call).restoreCommand}, {"resume", (*call).resumeCommand},
		{"run", (*call).runCommand}, {"spec", (*call).specCommand}, {"start", (*call).startCommand},
		{"state", (*call).stateCommand}, {"update", (*call).updateCommand},
	}
}

func (c *call) find(name string) *command {
	for _, e := range commands() {
		if e.name == name {
			cmd := e.build(c)
			cmd.name = name
			return cmd
		}
	}
	return nil
}

// helpCommand is `help [COMMAND]`.
func (c *call) helpCommand(words []string) (int, error) {
	if len(words) == 0 {
		c.overview()
		return 0, nil
	}
	cmd := c.find(words[0])
	if cmd == nil {
		return c.noSuchCommand(words[0])
	}
	c.commandHelp(cmd)
	return 0, nil
}

func (c *call) overview() {
	w := c.stdout
	fmt.Fprintf(w, "NAME:\n   %s - Open Container Initiative runtime\n\n", c.name)
	fmt.Fprintf(w, "USAGE:\n   %s [global options] command [command options] [arguments...]\n\n", c.name)
	fmt.Fprintf(w, "VERSION:\n   %s\n\nCOMMANDS:\n", Version)
	for _, e := range commands() {
		fmt.Fprintf(w, "   %-11s %s\n", e.name, e.build(c).about)
	}
	fmt.Fprintf(w, "   %-11s %s\n\nGLOBAL OPTIONS:\n", "help", "show this list, or the help of a command")
	printOptions(w, globalOptions(&global{}))
	fmt.Fprintf(w, `
A container is made from a bundle: a directory with a configuration, config.json,
and a root file system. "%[1]s spec" writes a configuration to begin with;
"%[1]s run ID" in that directory makes a container of it and runs it.
`, c.name)
}

func (c *call) commandHelp(cmd *command) {
	w := c.stdout
	fmt.Fprintf(w, "NAME:\n   %s %s - %s\n\n", c.name, cmd.name, cmd.about)
	fmt.Fprintf(w, "USAGE:\n   %s %s", c.name, cmd.name)
	if len(cmd.options) > 0 {
		fmt.Fprint(w, " [command options]")
	}
	fmt.Fprintln(w, strings.TrimRight(" "+cmd.usage, " "))
	if cmd.more != "" {
		fmt.Fprintf(w, "\nDESCRIPTION:\n%s\n", indent(cmd.more))
	}
	if len(cmd.options) > 0 {
		fmt.Fprint(w, "\nOPTIONS:\n")
		printOptions(w, cmd.options)
	}
}

func indent(s string) string {
	return "   " + strings.ReplaceAll(strings.Trim(s, "\n"), "\n", "\n   ")
}

func printOptions(w io.Writer, options []option) {
	width := len("--help, -h")
	for i := range options {
		width = max(width, len(options[i].String()))
	}
	for i := range options {
		if o := &options[i]; !o.hidden {
			fmt.Fprintf(w, "   %-*s  %s\n", width, o, o.about)
		}
	}
	fmt.Fprintf(w, "   %-*s  %s\n", width, "--help, -h", "show this")
}

// String is the option as it is typed: --bundle DIR, -b DIR.
func (o *option) String() string {
	var out []string
	for n := range strings.SplitSeq(o.names, ",") {
		dashes := "--"
		if len(n) == 1 {
			dashes = "-"
		}
		out = append(out, strings.TrimRight(dashes+n+" "+o.value, " "))
	}
	return strings.Join(out, ", ")
}

// version prints what runc prints, for programs that look for "spec:".
func (c *call) version() {
	fmt.Fprintf(c.stdout, "%s version %s\ncommit: %s\nspec: %s\ngo: %s\n", c.name, Version, commit(), specs.Version, runtime.Version())
}

// commit is what the go command knew of the checkout it built.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
