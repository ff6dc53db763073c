package oci

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime"
)

func (c *call) killCommand() *command {
	var all bool
	return &command{
		usage: "<container-id> [signal]", about: "send a signal (by default SIGTERM) to a container's first process",
		more: "The signal is a number or a name, with or without SIG.",
		min:  1, max: 2,
		options: []option{yes("all,a", "send it to all processes; a stopped container is no error", &all)},
		run: func(args []string) (int, error) {
			name := "TERM"
			if len(args) > 1 && args[1] != "" {
				name = args[1]
			}
			ctr, err := c.container(args[0])
			if err != nil {
				return 0, err
			}
			sig, err := parseSignal(name)
			if err != nil {
				return 0, err
			}
			err = ctr.Kill(sig, all)
			if all && errors.Is(err, runtime.ErrNotRunning) {
				err = nil
			}
			return 0, err
		},
	}
}

// parseSignal takes 9, KILL, SIGKILL, kill, RTMIN+3. Number 0 only asks whether
// there is a process (kill(2)).
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return unix.Signal(n), nil // the kernel knows which there are
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	for _, base := range []struct {
		name string
		n    int
	}{{"SIGRTMIN", 34}, {"SIGRTMAX", 64}} {
		offset, ok := strings.CutPrefix(name, base.name)
		if !ok {
			continue
		}
		n, err := 0, error(nil)
		if offset != "" {
			n, err = strconv.Atoi(offset)
		}
		if n += base.n; err == nil && n >= 34 && n <= 64 {
			return unix.Signal(n), nil
		}
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}
