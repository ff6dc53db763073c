package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/berth-run/berth/runtime"
)

func (c *call) listCommand() *command {
	var format string
	var quiet bool
	return &command{
		about: "list the containers below --root",
		options: []option{
			text("format,f", "FORMAT", "table (default) or json", &format),
			yes("quiet,q", "print ids only", &quiet),
		},
		run: func([]string) (int, error) {
			list, err := c.states()
			if err != nil {
				return 0, err
			}
			return 0, printList(c.stdout, list, format, quiet)
		},
	}
}

func printList(w io.Writer, list []*runtime.State, format string, quiet bool) error {
	if quiet {
		for _, s := range list {
			fmt.Fprintln(w, s.ID)
		}
		return nil
	}
	switch format {
	case "", "table":
		return printTable(w, list)
	case "json":
		return json.NewEncoder(w).Encode(list)
	}
	return errors.New("invalid format option")
}

func printTable(w io.Writer, list []*runtime.State) error {
	t := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprint(t, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.Pid, s.Status, s.Bundle, s.Created, s.Owner)
	}
	return t.Flush()
}

// states are those of all containers. A default root that nobody has made yet
// has none; one that was asked for must be there.
func (c *call) states() ([]*runtime.State, error) {
	root, err := os.Open(c.store.Root)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && !c.rootSet {
			return nil, nil
		}
		return nil, err
	}
	root.Close()
	all, err := c.store.List()
	if err != nil {
		return nil, err
	}
	var list []*runtime.State
	for _, ctr := range all {
		s, err := ctr.State()
		if err != nil { // one broken container does not hide the others
			fmt.Fprintf(os.Stderr, "state for %s: %v\n", ctr.ID, err)
			continue
		}
		s.Owner = ctr.Owner()
		list = append(list, s)
	}
	return list, nil
}
