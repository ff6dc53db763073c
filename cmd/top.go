package cmd

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/container"
)

func (a *app) topCommand() *cli.Command {
	return &cli.Command{
		Usage: "list the processes of a container", ArgsUsage: "CONTAINER [-o COLUMN,...]",
		Description: "Numbers are the host's. Columns: uid, user, pid, ppid, stat, stime, tty, time, comm, args.",
		Action: func(c *cli.Context) error {
			columns, err := topColumns(c.Args().Tail())
			if err != nil {
				return err
			}
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			if st := ctr.State(); st.Status != container.Running && st.Status != container.Paused {
				return fmt.Errorf("top: container %s %w", ctr.Name, container.ErrNotRunning)
			}
			pids, err := ctr.Pids()
			if err != nil {
				return err
			}
			tw := tabwriter.NewWriter(a.out, 8, 1, 2, ' ', 0)
			fmt.Fprintln(tw, strings.ToUpper(strings.ReplaceAll(strings.Join(columns, "\t"), "args", "cmd")))
			for _, pid := range pids {
				if p, ok := readProcess(pid); ok {
					fmt.Fprintln(tw, strings.Join(p.columns(columns), "\t"))
				}
			}
			return tw.Flush()
		},
	}
}

// topColumns reads what docker hands to ps(1): -o LIST is followed, and the
// selections -e, -f and aux, which change nothing here, are let through.
func topColumns(args []string) ([]string, error) {
	columns := strings.Fields("uid pid ppid stat stime tty time args")
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-o" && i+1 < len(args):
			i++
			arg = args[i]
		case strings.HasPrefix(arg, "-o"):
			arg = arg[2:]
		case arg == "aux", arg == "-ef", arg == "-e", arg == "-f", arg == "ef":
			continue
		default:
			return nil, badValue("top", arg, "-o COLUMN,...")
		}
		columns = strings.FieldsFunc(arg, func(r rune) bool { return r == ',' || r == ' ' })
		for j, c := range columns {
			if c == "cmd" || c == "command" {
				columns[j] = "args"
			} else if !strings.Contains(" uid user pid ppid stat stime tty time comm args ", " "+c+" ") {
				return nil, badValue("top -o", c, "uid, user, pid, ppid, stat, stime, tty, time, comm or args")
			}
		}
	}
	return columns, nil
}

// process is one line of proc_pid_stat(5).
type process struct {
	pid, uid   int
	comm, args string
	f          []string // fields from the third on
}

func readProcess(pid int) (process, bool) {
	p := process{pid: pid}
	dir := "/proc/" + strconv.Itoa(pid)
	b, err := os.ReadFile(dir + "/stat")
	open, closed := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if err != nil || open < 0 || closed < open {
		return p, false // it has ended since
	}
	p.comm, p.f = string(b[open+1:closed]), strings.Fields(string(b[closed+1:]))
	if len(p.f) < 20 {
		return p, false
	}
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil {
		p.uid = int(st.Uid)
	}
	args, _ := os.ReadFile(dir + "/cmdline")
	p.args = oneLine(string(bytes.ReplaceAll(bytes.TrimRight(args, "\x00"), []byte{0}, []byte{' '})))
	if p.args == "" {
		p.args = "[" + p.comm + "]"
	}
	return p, true
}

const ticks = 100 // per second: USER_HZ, the same on all architectures Go runs on

func (p *process) columns(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		switch n {
		case "uid", "user":
			out[i] = strconv.Itoa(p.uid)
		case "pid":
			out[i] = strconv.Itoa(p.pid)
		case "ppid":
			out[i] = p.f[1]
		case "stat":
			out[i] = p.f[0]
		case "stime":
			out[i] = p.started().Format("15:04")
		case "tty":
			out[i] = p.tty()
		case "time":
			s := (p.number(11) + p.number(12)) / ticks
			out[i] = fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
		case "comm":
			out[i] = oneLine(p.comm)
		case "args":
			out[i] = p.args
		}
	}
	return out
}

func (p *process) number(i int) int64 {
	n, _ := strconv.ParseInt(p.f[i], 10, 64)
	return n
}

func (p *process) started() time.Time {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(p.number(19))*time.Second/ticks - time.Duration(now.Nano()))
}

// tty is pts/3 for major 136; everything else a container could have is no terminal.
func (p *process) tty() string {
	dev := uint64(p.number(4))
	if unix.Major(dev) < 136 || unix.Major(dev) > 143 {
		return "?"
	}
	return fmt.Sprintf("pts/%d", unix.Minor(dev)+(unix.Major(dev)-136)*256)
}
