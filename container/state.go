package container

import (
	"os"
	"time"

	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/runtime/engine"
)

// readState returns state.json as it stands. Without one the container was
// only created: Create saves itself that file.
func (c *Container) readState() State {
	st := State{Status: Created}
	b, err := os.ReadFile(c.dir + "/state.json")
	if err == nil && len(b) > 0 && coldjson.Unmarshal(b, &st) != nil {
		st = State{Status: Exited, ExitCode: 255, Error: "state.json cannot be read"}
	}
	return st
}

func (c *Container) writeState(st State, first bool) error {
	c.last = &st
	b, err := coldjson.Sparse(&st)
	if err != nil {
		return err
	}
	if first {
		// nobody reads what is not there yet, and one write of less than a page
		// is seen whole or, by the file's size, not at all
		return os.WriteFile(c.dir+"/state.json", b, 0o600)
	}
	return replaceFile(c.dir+"/state.json", b)
}

// State reads the state and corrects what the file cannot know: that the
// process has died with the berth that watched it, or runs although its berth
// was killed before it could write that down.
func (c *Container) State() State {
	if c.last != nil && c.gone {
		return *c.last
	}
	st := c.readState()
	switch st.Status {
	case Running, Paused:
		// the watcher needs a moment to write down the end of the process
		for range 50 {
			if st.alive() || !st.watched() {
				break
			}
			time.Sleep(4 * time.Millisecond)
			if st = c.readState(); st.Status != Running && st.Status != Paused {
				return st
			}
		}
		if !st.alive() && !st.watched() {
			return c.lost(st)
		}
		// The state is written beside the process while that builds its root, and
		// ends if its berth is killed. (The reaper of --init never executes anything.)
		if st.Status == Running && !c.Options.Init && engine.Unexecuted(st.Pid) {
			st.Status = Created
		}
	case Restarting:
		if !st.watched() {
			st.Status = Exited
		}
	case Created, Exited:
		if pid := c.stray(); pid != 0 {
			st.Status, st.Pid = Running, pid
			st.StartTicks, _ = engine.ProcessStart(pid)
			st.Boot = engine.BootID()
			st.StartedAt = c.Created
		}
	}
	return st
}

// lost is the state of a container whose process ended with nobody there to take its exit code.
func (c *Container) lost(st State) State {
	st.Status, st.Pid, st.ExitCode = Exited, 0, 255
	st.Error = "the berth process that watched it was killed, the exit code is not known"
	if st.StopRequested {
		st.ExitCode, st.Error = 137, ""
	}
	if fi, err := os.Stat(c.dir + "/state.json"); err == nil {
		st.FinishedAt = fi.ModTime().UTC()
	}
	return st
}

// stray returns a process in the container's cgroup although the state says
// that none was started, 0 if there is none. While a start holds the lock the
// process is not yet the container's.
func (c *Container) stray() int {
	pids := c.cgroupPids()
	if len(pids) == 0 {
		return 0
	}
	f, err := lockDir(c.dir, lockTry)
	if err != nil {
		return 0
	}
	f.Close()
	return pids[0]
}

// abandoned tells that a --rm container has ended and nobody is there to remove it.
func (c *Container) abandoned() bool {
	if !c.Options.Remove {
		return false
	}
	st := c.State()
	return st.Status == Exited && !st.watched()
}

// alive tells whether the process still is the one that was started.
func (st *State) alive() bool { return st.Pid > 0 && sameProcess(st.Pid, st.StartTicks, st.Boot) }

// watched tells whether the berth that will record the end is alive.
func (st *State) watched() bool {
	return st.Monitor > 0 && sameProcess(st.Monitor, st.MonitorTicks, st.Boot)
}

func sameProcess(pid int, ticks uint64, boot string) bool {
	t, ok := engine.ProcessStart(pid)
	return ok && t == ticks && boot == engine.BootID()
}
