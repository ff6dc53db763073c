package container

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-run/berth/runtime/engine"
)

// A process that has not executed its program builds its root yet.
func TestStateWhileStarting(t *testing.T) {
	cmd := exec.Command("sh", "-c", "(while :; do sleep 1; done) & echo $!; wait") // a fork, and no execve
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	forked, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if p, err := os.FindProcess(forked); err == nil {
			p.Kill()
		}
		cmd.Process.Kill()
		cmd.Wait()
	}()
	c := &Container{store: &Store{Root: t.TempDir()}, dir: t.TempDir()}
	for _, want := range []struct {
		pid    int
		init   bool
		status Status
	}{{forked, false, Created}, {forked, true, Running}, {cmd.Process.Pid, false, Running}} {
		ticks, _ := engine.ProcessStart(want.pid)
		c.Options.Init = want.init
		if err := c.writeState(State{Status: Running, Pid: want.pid, StartTicks: ticks, Boot: engine.BootID()}, false); err != nil {
			t.Fatal(err)
		}
		if st := c.State(); st.Status != want.status || st.Pid != want.pid {
			t.Errorf("process %d, init %v: %s, want %s", st.Pid, want.init, st.Status, want.status)
		}
	}
}
