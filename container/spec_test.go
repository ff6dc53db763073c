package container

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/runtime/engine"
)

var update = flag.Bool("update", false, "write the golden files")

func TestSpecGolden(t *testing.T) {
	mode := os.FileMode(0o666)
	fuse := device{specs.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode}, "r"}
	base := Record{ID: strings.Repeat("0123", 16), Name: "x", Created: time.Unix(0, 0), Image: "busybox", Path: "sh", Args: []string{"-c", "id"},
		Env: []string{"PATH=/bin", "HOME=/root"}, Cwd: "/", Hostname: "012301230123"}
	f := facts{Bound: 1<<41 - 1, Dir: "/root/containers/ID", Root: "/root"}
	for name, change := range map[string]func(*Record, *facts){
		"plain":  func(r *Record, f *facts) { r.Options.Network = "none" },
		"bridge": func(r *Record, f *facts) { r.Options.Network = "bridge" },
		"user": func(r *Record, f *facts) {
			r.Options.Network, r.Options.ReadOnly, r.Options.SecurityOpt = "none", true, []string{"no-new-privileges"}
			r.Options.Ulimits = []string{"nofile=10:20"}
			r.Identity = Identity{UID: 1000, GID: 1000, Groups: []uint32{3000}, Home: "/home/app"}
		},
		"mounts": func(r *Record, f *facts) {
			r.Options.Network, r.Options.ShmSize = "none", 1<<20
			r.Mounts = []MountPoint{{Type: "bind", Source: "/h", Destination: "/x"}, {Type: "volume", Name: "v", Source: "/root/volumes/v/_data", Destination: "/v", RW: true, Options: []string{"nocopy"}},
				{Type: "tmpfs", Destination: "/t", RW: true, Options: []string{"exec", "size=1m"}}, {Type: "bind", Source: "/my/hosts", Destination: "/etc/hosts", RW: true, Propagation: "rshared"}}
		},
		"privileged": func(r *Record, f *facts) {
			r.Options.Network, r.Options.Privileged = "none", true
			f.Devices = []device{fuse}
		},
		"host": func(r *Record, f *facts) {
			r.Options.Network, r.Options.PID, r.Options.IPC, r.Options.UTS, r.Options.Cgroupns = "host", "host", "host", "host", "host"
			r.Options.TTY, f.ConsoleSize = true, &specs.Box{Height: 24, Width: 80}
		},
		"joined": func(r *Record, f *facts) {
			r.Options.Network, r.Options.Devices = "container:"+r.ID, []string{"/dev/fuse:r"}
			f.NetNS, f.Devices = "/proc/7/ns/net", []device{fuse}
		},
		"athost": func(r *Record, f *facts) { r.Options.Network, r.Image = "none", HostImage },
	} {
		r, f := base, f
		change(&r, &f)
		s, err := buildSpec(&r, f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := json.MarshalIndent(s, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		file := "testdata/" + name + ".json"
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (go test -update writes it anew): %s", name, d)
		}
	}
}

// A container whose namespaces are joined may be started between create and start.
func TestJoinedSinceCreate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a container's layer has the image's owner")
	}
	s := &Store{Root: t.TempDir()}
	other := addContainer(t, s, strings.Repeat("a", 64), "other")
	o := Options{Image: HostImage, Args: []string{"true"}, Network: "container:other", PID: "container:other", IPC: "container:other"}
	c, err := s.Create(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.config(nil, false); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "other") {
		t.Errorf("joins one that does not run: %v", err)
	}
	if c, err = s.Create(nil, o); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ticks, _ := engine.ProcessStart(os.Getpid())
	if err := other.writeState(State{Status: Running, Pid: os.Getpid(), StartTicks: ticks, Boot: engine.BootID()}, false); err != nil {
		t.Fatal(err)
	}
	cfg, err := c.config(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	joined := 0
	for _, n := range cfg.Spec.Linux.Namespaces {
		if strings.HasPrefix(n.Path, "/proc/"+strconv.Itoa(os.Getpid())+"/ns/") {
			joined++
		}
	}
	if joined != 3 {
		t.Errorf("%d of 3 namespaces are joined: %v", joined, cfg.Spec.Linux.Namespaces)
	}
}
