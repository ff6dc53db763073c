package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/runtime"
)

// execStatus is that of an exec that failed itself: callers must tell it from
// the program's own.
const execStatus = 255

// execFlags are the options of exec.
type execFlags struct {
	console, pidfd, pidFile             string
	process, cwd, user, label, apparmor string
	env, gids, caps, cgroups            []string
	tty, detach, ignorePaused           bool
	noNewPrivs                          *bool
	preserve                            int
}

func (c *call) execCommand() *command {
	f := &execFlags{}
	return &command{
		usage: "<container-id> <command> [arguments...] | -p process.json <container-id>",
		about: "execute another process in a container",
		more:  "The process is as the container's own was configured, but for these options. The exit status is that\nof the command, 255 if it could not be executed.",
		min:   1, max: -1, ordered: true,
		options: f.options(),
		run: func(args []string) (int, error) {
			status, err := c.exec(args[0], args[1:], f)
			if err != nil {
				return execStatus, fmt.Errorf("exec failed: %w", err)
			}
			return status, nil
		},
	}
}

func (f *execFlags) options() []option {
	return []option{
		text("console-socket", "PATH", "AF_UNIX socket that receives the master of the terminal", &f.console),
		text("pidfd-socket", "PATH", "AF_UNIX socket that receives a pidfd of the process", &f.pidfd),
		text("cwd", "DIR", "working directory in the container", &f.cwd),
		list("env,e", "NAME=VALUE", "set an environment variable", &f.env),
		yes("tty,t", "give the process a terminal", &f.tty),
		text("user,u", "UID[:GID]", "run as this user", &f.user),
		list("additional-gids,g", "GID", "add a supplementary group", &f.gids),
		text("process,p", "FILE", "read the whole process from this JSON file", &f.process),
		yes("detach,d", "do not wait for the process to end", &f.detach),
		text("pid-file", "FILE", "write the pid of the process to this file", &f.pidFile),
		text("process-label", "LABEL", "SELinux label of the process", &f.label),
		text("apparmor", "PROFILE", "AppArmor profile of the process", &f.apparmor),
		{names: "no-new-privs", about: "set no_new_privs", set: func(s string) error {
			v, err := strconv.ParseBool(s)
			f.noNewPrivs = &v
			return err
		}},
		list("cap,c", "CAP", "add a capability", &f.caps),
		number("preserve-fds", "pass N descriptors beyond the standard streams", &f.preserve),
		list("cgroup", "PATH", "run the process in this cgroup below the container's own", &f.cgroups),
		yes("ignore-paused", "wait for a paused container to be resumed", &f.ignorePaused),
	}
}

func (c *call) exec(id string, args []string, f *execFlags) (int, error) {
	pidFile, err := absolute(f.pidFile)
	if err != nil {
		return 0, err
	}
	ctr, err := c.container(id)
	if err != nil {
		return 0, err
	}
	p, err := f.build(ctr, args)
	if err != nil {
		return 0, err
	}
	if err := c.checkTerminal(p, f.console, f.detach); err != nil {
		return 0, err
	}
	cgroup, err := subCgroup(f.cgroups)
	if err != nil {
		return 0, err
	}
	if f.preserve < 0 {
		return 0, errors.New("preserve-fds must not be negative")
	}
	if err := checkDescriptors(3, f.preserve); err != nil {
		return 0, err
	}
	o := runtime.ExecOptions{Process: p, ConsoleSocket: f.console, PidfdSocket: f.pidfd, PidFile: pidFile,
		Cgroup: cgroup, PreserveFDs: f.preserve, IgnorePaused: f.ignorePaused}
	if !p.Terminal {
		o.Stdin, o.Stdout, o.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	return c.follow(ctr, o, f.detach)
}

// build is the process: the whole of --process, or the container's with changes.
func (f *execFlags) build(ctr *runtime.Container, args []string) (*specs.Process, error) {
	if f.process != "" {
		b, err := os.ReadFile(f.process)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := coldjson.Unmarshal(b, p); err != nil {
			*p = specs.Process{} // runc reads the first value, whatever comes behind it
			if json.NewDecoder(bytes.NewReader(b)).Decode(p) != nil {
				return nil, fmt.Errorf("%s: %w", f.process, err)
			}
		}
		return p, checkProcess(p)
	}
	if len(args) == 0 {
		return nil, errors.New("exec args cannot be empty")
	}
	p, err := ctr.ExecProcess()
	if err != nil {
		return nil, err
	}
	p.Args = args
	if err := f.change(p); err != nil {
		return nil, err
	}
	return p, checkProcess(p)
}

// change applies the options to the process of the container.
func (f *execFlags) change(p *specs.Process) error {
	p.Terminal = f.tty
	p.Env = append(p.Env, f.env...)
	for _, v := range []struct {
		from string
		to   *string
	}{{f.cwd, &p.Cwd}, {f.apparmor, &p.ApparmorProfile}, {f.label, &p.SelinuxLabel}} {
		if v.from != "" {
			*v.to = v.from
		}
	}
	if f.noNewPrivs != nil {
		p.NoNewPrivileges = *f.noNewPrivs
	}
	if len(f.caps) > 0 {
		addCapabilities(p, f.caps)
	}
	for _, s := range f.gids {
		gid, err := strconv.ParseInt(s, 10, 64)
		if err != nil || gid < 0 || gid > maxID {
			return fmt.Errorf("additional-gids must be a positive number %s", s)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(gid))
	}
	return setUser(&p.User, f.user)
}

const maxID = 1<<32 - 2 // the last one is "no id" (chown(2))

// setUser reads UID[:GID].
func setUser(u *specs.User, s string) error {
	if s == "" {
		return nil
	}
	uid, gid, both := strings.Cut(s, ":")
	if both {
		n, err := strconv.ParseUint(gid, 10, 32)
		if err != nil || n > maxID {
			return fmt.Errorf("bad gid: %q is no id", gid)
		}
		u.GID = uint32(n)
	}
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil || n > maxID {
		return fmt.Errorf("bad uid: %q is no id", uid)
	}
	u.UID = uint32(n)
	return nil
}

// addCapabilities: ambient ones must be inheritable (capabilities(7)), so they
// are added only where the configuration speaks of inheritable ones.
func addCapabilities(p *specs.Process, caps []string) {
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	sets := p.Capabilities
	sets.Bounding = append(sets.Bounding, caps...)
	sets.Effective = append(sets.Effective, caps...)
	sets.Permitted = append(sets.Permitted, caps...)
	if sets.Inheritable != nil {
		sets.Ambient = append(sets.Ambient, caps...)
	}
}

// subCgroup reads --cgroup: one path. The form of cgroup v1, which names
// controllers, has nothing to name here.
func subCgroup(args []string) (string, error) {
	for _, a := range args {
		controllers, _, v1 := strings.Cut(a, ":")
		name, _, _ := strings.Cut(controllers, ",")
		switch {
		case v1 && name == "":
			return "", fmt.Errorf("invalid --cgroup argument: %s (empty <controller> prefix)", a)
		case v1:
			return "", fmt.Errorf("unknown controller %s in SubCgroupPaths: containers are in cgroup v2, which takes a path alone", name)
		case len(args) > 1:
			return "", fmt.Errorf("invalid --cgroup argument: %s (missing <controller>: prefix)", a)
		}
	}
	if len(args) == 0 {
		return "", nil
	}
	return args[0], nil
}

// follow starts the process and, unless detached, stays until its end.
func (c *call) follow(ctr *runtime.Container, o runtime.ExecOptions, detach bool) (int, error) {
	f, err := c.newForeground(detach)
	if err != nil {
		return 0, err
	}
	defer f.close()
	p, err := ctr.Exec(context.Background(), o)
	if err != nil || detach {
		return 0, err
	}
	if o.Process.Terminal {
		if err := f.terminal(p.Console); err != nil {
			return 0, errors.Join(err, f.end(p))
		}
	}
	return f.wait(p), nil
}
