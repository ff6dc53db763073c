// Package container is what docker calls a container: an image, the options of
// one `run`, a name, a writable layer, logs and a state that outlives the
// process. It turns all of that into an OCI spec for package runtime.
package container

import (
	"net/netip"
	"time"

	"github.com/berth-run/berth/netns"
)

// Options is what the command line asks for: parsed, not yet decided.
// The zero value of a field means "not asked for". Names are docker's.
type Options struct {
	Name     string
	Image    string   // as typed; "@host" is the host's own root
	Args     []string // after the image
	Detach   bool     // -d
	Remove   bool     // --rm
	CIDFile  string
	Pull     string // missing (default), always, never
	Platform string

	Interactive bool // -i
	TTY         bool // -t
	DetachKeys  string
	SigProxy    bool

	Env        []string // -e, in order; KEY takes the caller's value
	EnvFile    []string
	Labels     []string // KEY=VALUE or KEY
	LabelFile  []string
	Workdir    string
	User       string
	GroupAdd   []string
	Hostname   string
	Domainname string
	Entrypoint *string // nil: the image's; "" clears it
	StopSignal string
	StopTime   *int // seconds

	Volumes     []string // -v, as typed
	Mounts      []string // --mount, as typed
	Tmpfs       []string // --tmpfs DIR[:options]
	VolumesFrom []string
	ShmSize     int64 // bytes; 0: 64 MiB
	ReadOnly    bool

	Network    string   // bridge (default), none, host, container:ID
	Ports      []string // -p, as typed
	PublishAll bool
	AddHost    []string // NAME:IP
	DNS        []netip.Addr
	DNSSearch  []string
	DNSOption  []string
	PID        string // "", host, container:ID
	IPC        string // "", private, host, container:ID
	UTS        string // "", host
	Cgroupns   string // "", private, host

	CapAdd, CapDrop []string
	Privileged      bool
	SecurityOpt     []string
	Init            bool
	Ulimits         []string // NAME=SOFT[:HARD]
	Sysctls         []string // KEY=VALUE
	Devices         []string // HOST[:CONTAINER[:rwm]]
	OOMScoreAdj     *int

	Memory            int64  // bytes
	MemorySwap        *int64 // bytes, memory + swap as in docker; -1 unlimited
	MemoryReservation int64  // bytes
	CPUs              float64
	CPUShares         uint64
	CPUPeriod         uint64 // microseconds
	CPUQuota          int64  // microseconds
	CpusetCPUs        string
	CpusetMems        string
	PidsLimit         *int64 // -1 unlimited
	BlkioWeight       uint16

	Restart     string   // no, always, on-failure[:N], unless-stopped
	Explain     bool     // print every step with its result and time
	Expose      []string // --expose PORT[/PROTO]
	MAC         string   // --mac-address
	Annotations []string // KEY=VALUE, into the OCI spec
}

// Status is a container's state as docker names it.
type Status string

// The states a container goes through.
const (
	Created Status = "created"
	Running Status = "running"
	Paused  Status = "paused"
	Exited  Status = "exited"
	// Restarting: waiting for the next try of a restart policy
	Restarting Status = "restarting"
)

// State is the part of a record that changes while a container lives.
// Boot and StartTicks tell whether Pid still means the same process.
type State struct {
	Status        Status
	Pid           int
	StartTicks    uint64 // field 22 of /proc/PID/stat
	Boot          string // /proc/sys/kernel/random/boot_id
	Monitor       int    // pid of the berth that watches it
	MonitorTicks  uint64 // as StartTicks
	ExitCode      int
	OOMKilled     bool
	Error         string
	StartedAt     time.Time
	FinishedAt    time.Time
	StopRequested bool    `json:",omitempty"` // by stop, kill or rm: no restart
	RestartCount  int     `json:",omitempty"`
	Network       Network `json:",omitzero"`
	CgroupDir     string  `json:",omitempty"`
}

// Network is what the container got when it was started.
type Network struct {
	IP      netip.Addr `json:",omitzero"`
	Bits    int
	Gateway netip.Addr `json:",omitzero"`
	MAC     string
	Bridge  string
	Ports   []netns.Port // with the host ports that were chosen
}

// Record is a container as it is kept in containers/ID/config.json: what was
// asked for and what was decided from it, so that start makes the same again.
type Record struct {
	ID         string
	Name       string
	Created    time.Time
	Image      string // as typed
	ImageID    string
	ImageName  string
	Path       string   // argv[0]
	Args       []string // argv[1:]
	Env        []string // complete
	Labels     map[string]string
	Options    Options
	Mounts     []MountPoint
	Ports      []netns.Port
	Lower      []string // layer directories, lowest first, relative to the root
	Identity   Identity // who the process is
	Cwd        string
	Hostname   string
	StopSignal string
	Exposed    []string // PORT/PROTO, of the image and --expose
	// as docker shows it: what came of the image or the flags before they were joined
	Entrypoint, Cmd []string
	User            string
}

// MountPoint is one mount a user asked for (volumes, binds, tmpfs).
type MountPoint struct {
	Type        string // bind, volume, tmpfs
	Name        string // of a volume
	Source      string // on the host
	Destination string
	RW          bool
	Propagation string
	Options     []string // further mount options (size=1m, mode=1770, nocopy …)
	Anonymous   bool     // removed with the container
}
