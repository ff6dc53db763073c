package oci

import (
	"encoding/json"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/seccomp"
	"github.com/berth-run/berth/runtime/step"
)

func (c *call) featuresCommand() *command {
	return &command{
		about: "print what this runtime can do, as JSON",
		more:  "The form is that of features.md in the runtime specification.",
		run: func([]string) (int, error) {
			e := json.NewEncoder(c.stdout)
			e.SetIndent("", "    ")
			return 0, e.Encode(featuresOf())
		},
	}
}

// featuresOf tells what the program understands, whatever this host has of it.
func featuresOf() *features.Features {
	return &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions:  rootfs.MountOptions(),
		Linux:         linuxFeatures(),
		Annotations: map[string]string{
			"run.berth.version": Version,
			// Callers that know runc's versions alone find the one whose command line this is.
			"org.opencontainers.runc.version":            "1.5.1",
			"org.opencontainers.runc.checkpoint.enabled": "true", // criu is looked for when it is needed, as by runc
		},
		// Callers must not pass these on from strangers: they name files, and
		// properties of systemd's units.
		PotentiallyUnsafeConfigAnnotations: []string{"bundle", "org.systemd.property.", "org.criu.config"},
	}
}

func linuxFeatures() *features.Linux {
	yes, no := true, false
	return &features.Linux{
		Namespaces:   []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"},
		Capabilities: capabilities(),
		Cgroup:       &features.Cgroup{V1: &no, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
		Seccomp: &features.Seccomp{
			Enabled: &yes, Actions: seccomp.KnownActions(), Operators: seccomp.KnownOperators(), Archs: seccomp.KnownArchs(),
			KnownFlags: seccomp.KnownFlags(), SupportedFlags: seccomp.SupportedFlags(),
		},
		Apparmor:        &features.Apparmor{Enabled: &yes},
		Selinux:         &features.Selinux{Enabled: &yes},
		IntelRdt:        &features.IntelRdt{Enabled: &yes, Schemata: &yes, Monitoring: &yes},
		MemoryPolicy:    memoryPolicy(),
		MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
		NetDevices:      &features.NetDevices{Enabled: &yes},
	}
}

func memoryPolicy() *features.MemoryPolicy {
	modes, flags := engine.MemoryPolicyNames()
	slices.Sort(modes)
	slices.Sort(flags)
	return &features.MemoryPolicy{Modes: modes, Flags: flags}
}

// capabilities are all that have a name (linux/capability.h).
func capabilities() []string {
	var names []string
	for n := 0; ; n++ {
		name := step.CapName(n)
		if name == fmt.Sprintf("CAP_%d", n) {
			return names
		}
		names = append(names, name)
	}
}
