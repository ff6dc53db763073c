package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/berth-run/berth/container"
)

func (a *app) statsCommand() *cli.Command {
	return &cli.Command{
		Usage: "show what containers use: processor, memory, network, disk", ArgsUsage: "[CONTAINER...]",
		Flags: []cli.Flag{
			yes("all,a", "all containers, not only those that run"),
			text("format", "string", "table, json, or a Go template"),
			yes("no-stream", "once, then end"),
			yes("no-trunc", "do not shorten"),
		},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			return a.stats(ctx, c)
		},
	}
}

// statsRow is what --format of stats sees; names are docker's.
type statsRow struct{ BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string }

const statsTable = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"

// sample is what a container had used at some moment.
type sample struct {
	at  time.Time
	cpu uint64 // microseconds
}

func (a *app) stats(ctx context.Context, c *cli.Context) error {
	header := statsRow{"BLOCK I/O", "CPU %", "CONTAINER", "CONTAINER ID", "MEM %", "MEM USAGE / LIMIT", "NAME", "NET I/O", "PIDS"}
	before := map[string]sample{}
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	for first := true; ; first = false {
		list, err := a.statsOf(c.Args().Slice(), c.Bool("all"))
		if err != nil {
			return err
		}
		var rows []statsRow
		for _, ctr := range list {
			row, err := statsRowOf(ctr, before, c.Bool("no-trunc"))
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		if !first { // a share of the processor needs two looks
			if terminal && !c.Bool("no-stream") {
				fmt.Fprint(a.out, "\x1b[H\x1b[J")
			}
			if err := show(a.out, c.String("format"), statsTable, header, rows); err != nil {
				return err
			}
			if c.Bool("no-stream") {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (a *app) statsOf(names []string, all bool) ([]*container.Container, error) {
	var out []*container.Container
	if len(names) > 0 {
		for _, n := range names {
			c, err := a.store.Lookup(n)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
		return out, nil
	}
	list, err := a.store.List()
	for _, c := range list {
		if st := c.State(); all || st.Pid != 0 {
			out = append(out, c)
		}
	}
	return out, err
}

func statsRowOf(c *container.Container, before map[string]sample, whole bool) (statsRow, error) {
	r := statsRow{Container: c.Name, ID: c.ID, Name: c.Name,
		CPUPerc: "0.00%", MemPerc: "0.00%", MemUsage: "0B / 0B", NetIO: "0B / 0B", BlockIO: "0B / 0B", PIDs: "0"}
	if !whole {
		r.ID = short(c.ID)
	}
	st := c.State()
	if st.Pid == 0 {
		return r, nil
	}
	s, err := c.Stats()
	if errors.Is(err, container.ErrNotRunning) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	now := sample{time.Now(), s.CPU["usage_usec"]}
	if old, ok := before[c.ID]; ok && now.cpu >= old.cpu {
		r.CPUPerc = percent(float64(now.cpu-old.cpu), float64(now.at.Sub(old.at).Microseconds()))
	}
	before[c.ID] = now
	memory, limit, pids := s.Memory, s.MemoryMax, s.Pids
	if list, err := c.Pids(); err == nil && pids == 0 { // no pids controller
		pids = uint64(len(list))
		if memory == 0 { // nor a memory controller: what the processes have in memory
			memory = resident(list)
		}
	}
	if limit == 0 {
		limit = totalMemory()
	}
	r.MemUsage = binarySize(memory) + " / " + binarySize(limit)
	r.MemPerc = percent(float64(memory), float64(limit))
	r.PIDs = strconv.FormatUint(pids, 10)
	r.BlockIO = humanSize(int64(s.IORead), 3) + " / " + humanSize(int64(s.IOWritten), 3)
	if in, out, ok := traffic(st.Pid); ok && c.Options.Network != "host" {
		r.NetIO = humanSize(in, 3) + " / " + humanSize(out, 3)
	}
	return r, nil
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "0.00%"
	}
	return fmt.Sprintf("%.2f%%", 100*part/whole)
}

// binarySize is docker's form for memory: powers of 1024.
func binarySize(n uint64) string {
	v, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.4g%s", v, units[i])
}

// resident sums the second field of /proc/PID/statm; shared pages count more than once.
func resident(pids []int) uint64 {
	var sum uint64
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if f := strings.Fields(string(b)); len(f) > 1 {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			sum += n * uint64(os.Getpagesize())
		}
	}
	return sum
}

// traffic sums what went through all interfaces but lo: proc_pid_net(5), dev.
func traffic(pid int) (in, out int64, ok bool) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return 0, 0, false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, rest, found := strings.Cut(sc.Text(), ":")
		n := strings.Fields(rest)
		if !found || strings.TrimSpace(name) == "lo" || len(n) < 9 {
			continue
		}
		r, _ := strconv.ParseInt(n[0], 10, 64)
		w, _ := strconv.ParseInt(n[8], 10, 64)
		in, out = in+r, out+w
	}
	return in, out, true
}
