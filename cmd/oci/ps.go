package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

func (c *call) psCommand() *command {
	var format string
	return &command{
		usage: "<container-id> [options of ps]", about: "list the processes of a container",
		more: "The table is that of ps(1), called with -ef or the given options, without the processes of others.",
		min:  1, max: -1, ordered: true,
		options: []option{text("format,f", "FORMAT", "table (default) or json, an array of pids", &format)},
		run: func(args []string) (int, error) {
			ctr, err := c.container(args[0])
			if err != nil {
				return 0, err
			}
			pids, err := ctr.Processes()
			if err != nil {
				return 0, c.hint("ps", err)
			}
			switch format {
			case "", "table":
				return 0, printProcesses(c.stdout, pids, args[1:])
			case "json":
				return 0, json.NewEncoder(c.stdout).Encode(pids)
			}
			return 0, errors.New("invalid format option")
		},
	}
}

func printProcesses(w io.Writer, pids []int, args []string) error {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.Command("ps", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	table, err := selectLines(string(out), pids)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, table)
	return err
}

// selectLines keeps the header and the lines of the given processes.
func selectLines(table string, pids []int) (string, error) {
	header, rest, _ := strings.Cut(table, "\n")
	column := slices.Index(strings.Fields(header), "PID")
	if column < 0 {
		return "", errors.New("couldn't find PID field in ps output")
	}
	out := header + "\n"
	for line := range strings.Lines(rest) {
		f := strings.Fields(line)
		if len(f) <= column {
			continue
		}
		pid, err := strconv.Atoi(f[column])
		if err != nil {
			return "", fmt.Errorf("unable to parse pid: %w", err)
		}
		if slices.Contains(pids, pid) {
			out += line
		}
	}
	return out, nil
}
