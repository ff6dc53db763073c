package cmd

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// The three kinds of flags. names is "long" or "long,short,alias"; arg is what
// help shows for the value; numbers are text too, so that a wrong one gets
// berth's own message. No flag has a default here: an absent one is zero.

func text(names, arg, about string) cli.Flag {
	name, aliases := split(names)
	return &cli.StringFlag{Name: name, Aliases: aliases, Usage: "`" + arg + "`" + about}
}

// list may be given several times; no value is split at commas.
func list(names, arg, about string) cli.Flag {
	name, aliases := split(names)
	return &cli.StringSliceFlag{Name: name, Aliases: aliases, Usage: "`" + arg + "`" + about, KeepSpace: true}
}

func yes(names, about string) cli.Flag {
	name, aliases := split(names)
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: about}
}

func split(names string) (string, []string) {
	all := strings.Split(names, ",")
	return all[0], all[1:]
}

// spellings are a flag's name and aliases, without the regular expression that
// urfave/cli's Names goes through.
func spellings(f cli.Flag) (string, []string) {
	switch f := f.(type) {
	case *cli.StringFlag:
		return f.Name, f.Aliases
	case *cli.StringSliceFlag:
		return f.Name, f.Aliases
	case *cli.BoolFlag:
		return f.Name, f.Aliases
	}
	return f.Names()[0], f.Names()[1:]
}

// described is what help shows: the value's name and the text.
func described(f cli.Flag) (arg, about string) {
	switch f := f.(type) {
	case *cli.StringFlag:
		about = f.Usage
	case *cli.StringSliceFlag:
		about = f.Usage
	case *cli.BoolFlag:
		return "", f.Usage
	}
	arg, about, _ = strings.Cut(strings.TrimPrefix(about, "`"), "`")
	return arg, about
}
