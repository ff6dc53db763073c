package container

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/runtime/engine"
)

// security is what --security-opt decides.
type security struct {
	noNewPrivs bool
	seccomp    string // "": the default, builtin, unconfined, or a profile in JSON
	showPaths  bool   // systempaths=unconfined: nothing in /proc and /sys is hidden
	apparmor   string // the profile, "" for none
}

// securityLabels are what the kernel's security modules are told before execve.
func securityLabels(p *specs.Process) engine.Labels {
	if p.ApparmorProfile == "" {
		return engine.Labels{}
	}
	return engine.Labels{ExecFile: "/proc/self/attr/apparmor/exec", Exec: "exec " + p.ApparmorProfile} // Linux 5.1
}

// appArmor tells whether the kernel enforces AppArmor profiles.
func appArmor() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && len(b) > 0 && b[0] == 'Y'
}

func parseSecurity(list []string) (security, error) {
	var s security
	for _, opt := range list {
		key, val, has := strings.Cut(opt, "=")
		if !has {
			key, val, has = strings.Cut(opt, ":")
		}
		switch {
		case key == "no-new-privileges":
			on := true
			if has {
				b, err := strconv.ParseBool(val)
				if err != nil {
					return s, fmt.Errorf("invalid --security-opt %q", opt)
				}
				on = b
			}
			s.noNewPrivs = on
		case key == "seccomp" && val != "":
			s.seccomp = val
		case key == "apparmor" && val == "unconfined":
		case key == "apparmor" && val != "":
			if !appArmor() {
				return s, fmt.Errorf("--security-opt %s: AppArmor is not enabled on this host", opt)
			}
			s.apparmor = val // loaded by the administrator, else execve says that it is not there
		case key == "label" && (val == "disable" || strings.Contains(val, ":")):
			// SELinux is not enabled where berth runs: as docker does then, ignored
		case key == "systempaths" && val == "unconfined":
			s.showPaths = true
		default:
			return s, fmt.Errorf("invalid --security-opt %q: there are seccomp=, apparmor=, label=, no-new-privileges and systempaths=unconfined", opt)
		}
	}
	return s, nil
}

// The paths that docker hides or makes read-only (moby, oci/defaults.go).
const (
	maskedPaths   = "/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap"
	readonlyPaths = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger"
)

// sysctls reads --sysctl KEY=VALUE and refuses what is not of a namespace the container has to itself.
func sysctls(o *Options) (map[string]string, error) {
	set := map[string]string{}
	for _, kv := range o.Sysctls {
		key, val, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("invalid --sysctl %q: must be KEY=VALUE", kv)
		}
		key = strings.ReplaceAll(key, "/", ".")
		switch ipc, net := sysctlNamespace(key); {
		case ipc && (o.IPC == "host" || strings.HasPrefix(o.IPC, "container:")):
			return nil, fmt.Errorf("--sysctl %s: not allowed, the container shares its IPC namespace", key)
		case net && (o.Network == "host" || strings.HasPrefix(o.Network, "container:")):
			return nil, fmt.Errorf("--sysctl %s: not allowed, the container shares its network namespace", key)
		case !ipc && !net:
			return nil, fmt.Errorf("--sysctl %s: not allowed, it is the whole host's and not of a namespace", key)
		}
		set[key] = val
	}
	if ownNetwork(o.Network) && o.Network != "none" {
		// docker: programs without root may ping and take low ports in a network of their own
		for key, val := range map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"} {
			if _, ok := set[key]; !ok {
				set[key] = val
			}
		}
	}
	return set, nil
}

// sysctlNamespace tells which namespace a sysctl belongs to (namespaces(7), ipc_namespaces(7)).
func sysctlNamespace(key string) (ipc, net bool) {
	switch key {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true, false
	}
	return strings.HasPrefix(key, "fs.mqueue."), strings.HasPrefix(key, "net.")
}

// ownNetwork tells whether the container gets a network namespace to itself.
func ownNetwork(mode string) bool {
	return mode != "host" && !strings.HasPrefix(mode, "container:")
}

// rlimits reads --ulimit NAME=SOFT[:HARD]; -1 is unlimited.
func rlimits(list []string) ([]specs.POSIXRlimit, error) {
	var all []specs.POSIXRlimit
	for _, spec := range list {
		name, val, ok := strings.Cut(spec, "=")
		soft, hard, both := strings.Cut(val, ":")
		if !both {
			hard = soft
		}
		switch name {
		case "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
			"rss", "rtprio", "rttime", "sigpending", "stack", "as":
		default:
			return nil, fmt.Errorf("invalid --ulimit %q: unknown limit %q", spec, name)
		}
		s, err1 := rlimit(soft)
		h, err2 := rlimit(hard)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("invalid --ulimit %q: must be NAME=SOFT[:HARD]", spec)
		}
		if s > h {
			return nil, fmt.Errorf("invalid --ulimit %q: the soft limit is above the hard one", spec)
		}
		all = append(all, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: s, Hard: h})
	}
	return all, nil
}

func rlimit(s string) (uint64, error) {
	if s == "-1" || s == "unlimited" {
		return ^uint64(0), nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// hostName is the host's own, for containers that share its network.
func hostName() string {
	n, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return n
}
