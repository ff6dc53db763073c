package cgroups

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const user = 4711

func asUser(c *exec.Cmd) {
	c.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
}

// answer is what a job of an unprivileged user saw.
type answer struct {
	Dir, Err    string
	State       State
	Files       map[string]string
	Sub, Remove string // errors
}

// userJob makes a cgroup as the user that it runs as: PATH RESOURCES, "-" for none.
func userJob(arg []string) {
	var a answer
	path := strings.Trim(arg[0], "-")
	l := Limits{}
	if arg[1] != "-" {
		r := resourcesOf(arg[1])
		var err error
		if l, err = FromResources(r); err != nil {
			panic(err)
		}
	}
	onSystemd := len(arg) > 2
	m, err := New(Request{ID: "mine", Path: path, Limits: l, Rootless: true, Systemd: onSystemd})
	if err == nil {
		first := exec.Command("sleep", "100")
		var f *os.File
		f, err = m.Apply(func() (int, error) {
			err := first.Start()
			if err != nil {
				return 0, err
			}
			return first.Process.Pid, nil
		})
		if f != nil {
			a.Files = map[string]string{"pids.max": flatValue(m.Dir(), "pids.max"), "memory.max": flatValue(m.Dir(), "memory.max")}
			f.Close()
		}
		a.Dir, a.State = m.Dir(), m.State()
		if onSystemd && err == nil {
			a.goOn(first)
		}
		if err := m.Remove(); err != nil {
			a.Remove = err.Error()
		}
	}
	if err != nil {
		a.Err = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(a)
}

// goOn is what later commands do with a scope: move a process in, update.
func (a *answer) goOn(first *exec.Cmd) {
	m := a.State.Manager()
	second := exec.Command("sleep", "100")
	err := second.Start()
	if err == nil {
		err = m.Attach(second.Process.Pid, "")
	}
	if err == nil {
		a.Files["cgroup"] = unified(flatValue(fmt.Sprint("/proc/", second.Process.Pid), "cgroup"))
		err = m.Update(Limits{PidsMax: n(40)})
	}
	a.Files["updated pids.max"] = flatValue(m.Dir(), "pids.max")
	if err != nil {
		a.Sub = err.Error()
	}
	dir, err := os.Open(m.Dir())
	if err == nil {
		third := exec.Command("true")
		third.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		err = third.Run()
	}
	a.Files["clone"] = fmt.Sprint(err)
	go func() { first.Wait(); second.Wait() }()
}

func runAsUser(t *testing.T, dir *os.File, what string) (a answer) {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "CGROUPS_TEST_JOB=user "+what)
	c.SysProcAttr = &syscall.SysProcAttr{}
	if dir != nil {
		c.SysProcAttr.UseCgroupFD, c.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	asUser(c)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return a
}

// A cgroup that is given to a user is his to divide, not to widen.
func TestKernelDelegates(t *testing.T) {
	h := everyController(t)
	uid := user
	r := request(t, "given", `{"memory":{"limit":67108864},"pids":{"limit":50}}`)
	r.Owner = &uid
	m, _ := apply(t, h, r)
	owner := func(name string) int {
		fi, err := os.Stat(filepath.Join(m.Dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		return int(fi.Sys().(*syscall.Stat_t).Uid)
	}
	for name, want := range map[string]int{"": user, "cgroup.procs": user, "cgroup.subtree_control": user, "cgroup.threads": user, "memory.max": 0, "pids.max": 0} {
		if got := owner(name); got != want {
			t.Errorf("%q belongs to %d", name, got)
		}
	}
	// His session is in a cgroup of its own below.
	session := filepath.Join(m.Dir(), "session")
	if err := errors.Join(os.Mkdir(session, 0o755), os.Chown(session, user, user), os.Chown(session+"/cgroup.procs", user, user)); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(session)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	a := runAsUser(t, in, `- {"pids":{"limit":5},"memory":{"limit":33554432}}`)
	if a.Err != "" || a.Dir != m.Dir()+"/mine" || a.Files["pids.max"] != "5" || a.Files["memory.max"] != "33554432" || a.Remove != "" {
		t.Errorf("%+v", a)
	}
	// Beyond his border he may do nothing; without a limit he does without.
	a = runAsUser(t, in, `/berth-test/stranger -`)
	if !strings.Contains(a.Err, "permission denied") {
		t.Errorf("%+v", a)
	}
}

func TestKernelWithoutDelegation(t *testing.T) {
	h := everyController(t)
	_, in := apply(t, h, request(t, "session/x", `{}`))
	if a := runAsUser(t, in, "- -"); a.Err != "" || a.Dir != "" || a.State.Dir != "" || a.Remove != "" {
		t.Errorf("%+v", a)
	}
	a := runAsUser(t, in, `- {"pids":{"limit":5}}`)
	if !strings.Contains(a.Err, "rootless needs no limits + no cgrouppath when no permission is granted for cgroups") {
		t.Errorf("%+v", a)
	}
	if testing.Verbose() {
		fmt.Println(a.Err)
	}
}
