package cmd

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// overview is `berth` without a command.
func (a *app) overview() error {
	fmt.Fprintf(a.out, "Usage:  berth [OPTIONS] COMMAND\n\nRun containers: one program, no daemon.\n\nCommands:\n")
	printEntries(a.out, single())
	fmt.Fprintf(a.out, "\nManagement commands:\n")
	printEntries(a.out, groups())
	fmt.Fprintf(a.out, "\nGlobal options:\n")
	printFlags(a.out, globalFlags())
	fmt.Fprintf(a.out, "\nTry `berth run @host echo hello`, and `berth COMMAND --help` for more about a command.\n")
	return nil
}

func printEntries(w io.Writer, list []entry) {
	seen := ""
	for _, e := range list {
		if !e.hidden && e.name != seen {
			fmt.Fprintf(w, "  %-11s %s\n", e.name, e.about)
		}
	}
}

// help is `berth help [COMMAND [COMMAND]]`.
func (a *app) help(words []string) error {
	if len(words) == 0 {
		return a.overview()
	}
	e, path, _, err := find(table(), words)
	if err != nil {
		return err
	}
	if e.sub != nil {
		return a.groupHelp(e, path)
	}
	return a.commandHelp(e.build(a), path)
}

func (a *app) groupHelp(e *entry, path string) error {
	fmt.Fprintf(a.out, "Usage:  %s COMMAND\n\n%s\n\nCommands:\n", path, sentence(e.about))
	printEntries(a.out, e.sub())
	return nil
}

func (a *app) commandHelp(c *cli.Command, path string) error {
	usage := path
	if len(c.Flags) > 0 {
		usage += " [OPTIONS]"
	}
	if c.ArgsUsage != "" {
		usage += " " + c.ArgsUsage
	}
	fmt.Fprintf(a.out, "Usage:  %s\n\n%s\n", usage, sentence(c.Usage))
	if c.Description != "" {
		fmt.Fprintf(a.out, "\n%s\n", strings.Trim(c.Description, "\n"))
	}
	if len(c.Flags) > 0 {
		fmt.Fprintf(a.out, "\nOptions:\n")
		printFlags(a.out, c.Flags)
	}
	return nil
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// printFlags lists flags as docker does: by long name, the letter in front.
func printFlags(w io.Writer, flags []cli.Flag) {
	type line struct{ name, left, about string }
	lines := make([]line, 0, len(flags))
	width := 0
	for _, f := range flags {
		name, aliases := spellings(f)
		arg, about := described(f)
		letter := "    "
		for _, al := range aliases {
			if len(al) == 1 {
				letter = "-" + al + ", "
			}
		}
		left := "  " + letter + "--" + name
		if arg != "" {
			left += " " + arg
		}
		if about == "" {
			continue
		}
		width = max(width, len(left))
		lines = append(lines, line{name, left, about})
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.name, b.name) })
	for _, l := range lines {
		fmt.Fprintf(w, "%-*s   %s\n", width, l.left, l.about)
	}
}
