package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime"
)

// event is one line of events.
type event struct {
	Type string            `json:"type"`
	ID   string            `json:"id"`
	Data *cgroups.OCIStats `json:"data,omitempty"`
}

func (c *call) eventsCommand() *command {
	interval := 5 * time.Second
	var once bool
	return &command{
		usage: "<container-id>", about: "print what a container uses, and its OOM kills",
		more: "One JSON object a line; ends with the container.",
		min:  1, max: 1,
		options: []option{
			duration("interval", "time between two lines of statistics (default 5s)", &interval),
			yes("stats", "print the statistics once", &once),
		},
		run: func(args []string) (int, error) {
			ctr, err := c.container(args[0])
			if err != nil {
				return 0, err
			}
			if interval <= 0 {
				return 0, errors.New("duration interval must be greater than 0")
			}
			s, err := ctr.State()
			if err != nil {
				return 0, err
			}
			if s.Status == runtime.Stopped {
				return 0, fmt.Errorf("container with id %s is not running", ctr.ID)
			}
			if once {
				return 0, printStats(c.stdout, ctr)
			}
			return 0, c.watch(ctr, interval)
		},
	}
}

func printStats(w io.Writer, ctr *runtime.Container) error {
	s, err := ctr.Stats()
	if errors.Is(err, runtime.ErrNoCgroup) {
		s, err = &cgroups.Stats{}, nil // nothing is counted: runc prints zeros
	}
	if err != nil {
		return err
	}
	o := s.OCI()
	if o.IntelRdt, err = ctr.CacheStats(); err != nil {
		return fmt.Errorf("unable to get container Intel RDT stats: %w", err)
	}
	return json.NewEncoder(w).Encode(event{"stats", ctr.ID, o})
}

// watch prints until the container ends. Where the kernel does not count OOM
// kills (no memory controller) the end is noticed at the next interval.
func (c *call) watch(ctr *runtime.Container, interval time.Duration) error {
	kills := make(chan struct{}, 1024)
	ended := make(chan error, 1)
	go func() {
		ended <- ctr.WatchOOM(context.Background(), func() { kills <- struct{}{} })
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-kills:
			if err := json.NewEncoder(c.stdout).Encode(event{Type: "oom", ID: ctr.ID}); err != nil {
				return err
			}
		case err := <-ended:
			if err == nil {
				return c.lastKills(ctr, kills)
			}
			c.log.warn("OOM kills are not watched: " + err.Error())
			ended = nil
		case <-tick.C:
			if s, err := ctr.State(); err != nil || s.Status == runtime.Stopped {
				return c.lastKills(ctr, kills)
			}
			if err := printStats(c.stdout, ctr); err != nil {
				c.log.error(err.Error())
			}
		}
	}
}

// lastKills are those that were reported together with the end.
func (c *call) lastKills(ctr *runtime.Container, kills <-chan struct{}) error {
	for {
		select {
		case <-kills:
			if err := json.NewEncoder(c.stdout).Encode(event{Type: "oom", ID: ctr.ID}); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}
