package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// kinds of hooks in the order in which they run.
var kinds = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

func list(h *specs.Hooks, kind string) *[]specs.Hook {
	//lint:ignore SA1019 deprecated, and used
	return map[string]*[]specs.Hook{"prestart": &h.Prestart, "createRuntime": &h.CreateRuntime, "createContainer": &h.CreateContainer,
		"startContainer": &h.StartContainer, "poststart": &h.Poststart, "poststop": &h.Poststop}[kind]
}

// hook runs a script by busybox: the host's, but for the one kind that runs
// with the container's files.
func hook(kind, script string) specs.Hook {
	h := specs.Hook{Path: "/bin/busybox", Args: []string{"sh", "-c", script}, Env: []string{"K=" + kind, "PATH=/bin:/usr/bin"}}
	if kind == "startContainer" {
		h.Path = "/bin/sh"
	}
	return h
}

func TestHooks(t *testing.T) {
	b := newBox(t)
	out := t.TempDir()
	os.Mkdir(b.root()+"/out", 0o755)
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/out", Source: out, Type: "bind", Options: []string{"bind"}})
	b.spec.Annotations = map[string]string{"k": "v"}
	b.spec.Hooks = &specs.Hooks{}
	for _, kind := range kinds {
		dir := out
		if kind == "startContainer" {
			dir = "/out"
		}
		for _, n := range []string{"0", "1"} {
			l := list(b.spec.Hooks, kind)
			*l = append(*l, hook(kind, strings.ReplaceAll("cat >DIR/${K}"+n+"; echo ${K}"+n+" >>DIR/order; pwd >DIR/$K.cwd; readlink /proc/self/ns/mnt >DIR/$K.ns; env >DIR/$K.env", "DIR", dir)))
		}
	}
	b.sh("echo program >>/out/order")
	c := b.create("c")
	order := func() string {
		text, _ := os.ReadFile(out + "/order")
		return strings.Join(strings.Fields(string(text)), " ")
	}
	if want := "prestart0 prestart1 createRuntime0 createRuntime1 createContainer0 createContainer1"; order() != want {
		t.Errorf("after create: %s", order())
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	pid := c.state.Pid
	b.delete(c)
	// The program runs beside poststart.
	got := strings.Replace(order(), " program", "", 1)
	if want := "prestart0 prestart1 createRuntime0 createRuntime1 createContainer0 createContainer1 startContainer0 startContainer1 poststart0 poststart1 poststop0 poststop1"; got != want {
		t.Errorf("order: %s", got)
	}
	own, _ := os.Readlink("/proc/self/ns/mnt")
	for _, kind := range kinds {
		status := map[string]string{"startContainer": "created", "poststart": "running", "poststop": "stopped"}[kind]
		if status == "" {
			status = "creating"
		}
		var s specs.State
		text, err := os.ReadFile(filepath.Join(out, kind+"0"))
		if err != nil || json.Unmarshal(text, &s) != nil {
			t.Errorf("%s: state %q, %v", kind, text, err)
			continue
		}
		wantPid := pid
		if kind == "poststop" {
			wantPid = 0
		}
		if s.ID != c.ID || string(s.Status) != status || s.Bundle != b.bundle || s.Annotations["k"] != "v" || s.Pid != wantPid || s.Version != specs.Version {
			t.Errorf("%s reads %s", kind, text)
		}
		cwd, _ := os.ReadFile(filepath.Join(out, kind+".cwd"))
		wantDir := map[string]string{"createContainer": b.root(), "startContainer": "/"}[kind]
		if wantDir == "" {
			wantDir = b.bundle
		}
		if strings.TrimSpace(string(cwd)) != wantDir {
			t.Errorf("%s runs in %q, want %s", kind, cwd, wantDir)
		}
		ns, _ := os.ReadFile(filepath.Join(out, kind+".ns"))
		if inside := kind == "createContainer" || kind == "startContainer"; inside == strings.Contains(string(ns), own) {
			t.Errorf("%s: namespaces %q, the caller's are %s", kind, ns, own)
		}
		env, _ := os.ReadFile(filepath.Join(out, kind+".env"))
		if !strings.Contains(string(env), "K="+kind+"\n") || strings.Contains(string(env), "GOROOT") || strings.Contains(string(env), "TMPDIR") {
			t.Errorf("%s: environment %q", kind, env)
		}
	}
}

func TestHooksOfRun(t *testing.T) {
	b := newBox(t)
	out := t.TempDir()
	b.spec.Hooks = &specs.Hooks{}
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"} {
		*list(b.spec.Hooks, kind) = []specs.Hook{hook(kind, "echo $K >>"+out+"/order")}
	}
	b.spec.Hooks.StartContainer = []specs.Hook{hook("startContainer", "echo $K >/tmp/x")}
	b.prints("cat /tmp/x", "startContainer\n")
	text, _ := os.ReadFile(out + "/order")
	if got := strings.Join(strings.Fields(string(text)), " "); got != "prestart createRuntime createContainer poststart poststop" {
		t.Error(got)
	}
}

// A hook that fails ends the container, and says which and what it said.
func TestFailingHooks(t *testing.T) {
	for _, kind := range []string{"prestart", "createRuntime", "createContainer"} {
		b := newBox(t)
		b.spec.Hooks = &specs.Hooks{}
		*list(b.spec.Hooks, kind) = []specs.Hook{hook(kind, "true"), hook(kind, "echo said; exit 3")}
		b.refused("error running " + kind + " hook #1: exit status 3, stdout: ")
		b.refused("said")
		*list(b.spec.Hooks, kind) = []specs.Hook{{Path: "/no/such"}}
		b.refused("error running " + kind + " hook #0: ")
	}
	for _, kind := range []string{"startContainer", "poststart"} {
		b := newBox(t)
		b.spec.Hooks = &specs.Hooks{}
		*list(b.spec.Hooks, kind) = []specs.Hook{hook(kind, "echo said; exit 3")}
		b.sh("touch /tmp/ran; exec sleep 100")
		c := b.create("c")
		err := c.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "error running "+kind+" hook #0: exit status 3") || !strings.Contains(err.Error(), "said") {
			t.Errorf("%s: %v", kind, err)
		}
		b.ended(c)
		c.Wait()
		b.status(c, Stopped)
		if kind == "startContainer" && exists(b.root()+"/tmp/ran") {
			t.Error("the program was executed")
		}
		b.delete(c)
		_, err = b.store.Run(t.Context(), b.id("run"), b.options())
		if err == nil || !strings.Contains(err.Error(), "error running "+kind+" hook #0") {
			t.Errorf("run, %s: %v", kind, err)
		}
		if left, _ := os.ReadDir(b.store.Root); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// What cannot be undone is a warning, and the next hook runs.
func TestFailingPoststop(t *testing.T) {
	b := newBox(t)
	out := t.TempDir()
	b.spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{hook("poststop", "exit 1"), hook("poststop", "echo >"+out+"/ran")}}
	c := b.create("c")
	b.delete(c)
	if len(b.warned) != 1 || !strings.HasPrefix(b.warned[0], "error running poststop hook #0: exit status 1") {
		t.Errorf("warned %q", b.warned)
	}
	if !exists(out + "/ran") {
		t.Error("the second one did not run")
	}
}

func TestHookTimeouts(t *testing.T) {
	second := 1
	for _, kind := range []string{"createRuntime", "createContainer"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			b.spec.Hooks = &specs.Hooks{}
			h := hook(kind, "exec sleep 100")
			h.Timeout = &second
			*list(b.spec.Hooks, kind) = []specs.Hook{h}
			began := time.Now()
			_, err := b.store.Create(t.Context(), b.id("c"), b.options())
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), kind+" hook #0") {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took < time.Second || took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if left, _ := os.ReadDir(b.store.Root); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// createContainer runs in the container's namespaces, with the host's files.
func TestHookInTheNetwork(t *testing.T) {
	b := newBox(t)
	b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{hook("createContainer", "busybox ip link set lo mtu 1234")}}
	b.prints("cat /sys/class/net/lo/mtu", "1234\n")
	if mtu, _ := os.ReadFile("/sys/class/net/lo/mtu"); strings.TrimSpace(string(mtu)) == "1234" {
		t.Error("the host's device was changed")
	}
}
