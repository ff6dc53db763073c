package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/seccomp"
)

// deliver hands a new process's terminal, pidfd and pid to whoever asked.
func deliver(p *engine.Process, console, pidfd, pidFile string) error {
	if console != "" && p.Console != nil {
		err := sendFile(console, []byte("/dev/ptmx"), p.Console)
		err = errors.Join(err, p.Console.Close())
		p.Console = nil
		if err != nil {
			return fmt.Errorf("send the terminal to the console socket %s: %w", console, err)
		}
	}
	if pidfd != "" {
		if err := sendFile(pidfd, []byte("pidfd"), p.Pidfd); err != nil {
			return fmt.Errorf("send the pidfd to %s: %w", pidfd, err)
		}
	}
	if pidFile != "" {
		return writePidFile(pidFile, p.Pid)
	}
	return nil
}

// writePidFile: whoever waits for the file finds the whole number in it.
func writePidFile(path string, pid int) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	err := os.WriteFile(tmp, []byte(strconv.Itoa(pid)), 0o666)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write the pid file: %w", err)
	}
	return nil
}

// sendFile sends a descriptor over a unix socket (unix(7), SCM_RIGHTS).
func sendFile(socket string, data []byte, f *os.File) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _, err = conn.WriteMsgUnix(data, unix.UnixRights(int(f.Fd())), nil)
	return err
}

// sendListener hands the descriptor of seccomp notifications to the agent
// (runtime-spec, config-linux.md, "The container process state").
func (m *maker) sendListener(pid int, listener *os.File) error {
	return m.Container.sendListener(m.config.Seccomp)(pid, listener)
}

func (c *Container) sendListener(f *seccomp.Filter) func(pid int, listener *os.File) error {
	return func(pid int, listener *os.File) error {
		defer listener.Close()
		status := specs.StateCreating
		if !c.state.Creating {
			status = specs.StateRunning
		}
		b, err := coldjson.Marshal(&specs.ContainerProcessState{Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid,
			Metadata: f.ListenerMetadata, State: specs.State{Version: specs.Version, ID: c.ID, Status: status, Pid: c.state.Pid,
				Bundle: c.state.Bundle, Annotations: c.state.Notes}})
		if err != nil {
			return err
		}
		if err := sendFile(f.ListenerPath, b, listener); err != nil {
			return fmt.Errorf("failed to connect with seccomp agent specified in the seccomp profile: %w", err)
		}
		return nil
	}
}
