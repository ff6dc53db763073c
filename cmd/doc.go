// Package cmd is the shell face of berth: the commands a person types, with
// docker's names, flags, output and exit codes. A command parses, calls package
// container or image, and prints; it decides nothing about containers itself.
//
// # One binary, two starts
//
// Every command pays for the start-up of every package that is linked in, and
// a registry client (net/http, crypto/tls) costs more than a whole `berth ps`.
// So Main runs twice at most: package early calls it, without a registry, from
// its own init, before those packages are initialised, and ends the process.
// Only a command that must talk to a registry returns NeedRegistry, before it
// has touched anything, and is run again from the real main.
// This package must therefore not import net/http, directly or indirectly; a test
// holds that.
//
// # How arguments are read
//
// docker's flags are pflag's: -itd, -eA=1, --flag=value, --flag value, flags
// after names. parse (args.go) turns them into the one form --flag=value that
// urfave/cli's parser understands, and is where unknown flags are found.
package cmd
