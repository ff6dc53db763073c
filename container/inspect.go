package container

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-run/berth/netns"
)

// Inspect is docker's JSON of a container; names and shapes are those of its
// API (v1.44, GET /containers/ID/json).
type Inspect struct {
	ID              string `json:"Id"`
	Created         time.Time
	Path            string
	Args            []string
	State           InspectState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      InspectHostConfig
	GraphDriver     InspectGraph
	Mounts          []InspectMount
	Config          InspectConfig
	NetworkSettings InspectNetwork
}

// InspectState is the field State.
type InspectState struct {
	Status     Status
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
}

// InspectHostConfig is the field HostConfig: what was asked for.
type InspectHostConfig struct {
	Binds             []string
	ContainerIDFile   string
	LogConfig         InspectLog
	NetworkMode       string
	PortBindings      map[string][]InspectPort
	RestartPolicy     InspectRestart
	AutoRemove        bool
	VolumesFrom       []string
	ConsoleSize       [2]int
	Annotations       map[string]string `json:",omitempty"`
	CapAdd, CapDrop   []string
	CgroupnsMode      string
	DNS               []string `json:"Dns"`
	DNSOptions        []string `json:"DnsOptions"`
	DNSSearch         []string `json:"DnsSearch"`
	ExtraHosts        []string
	GroupAdd          []string
	IpcMode           string
	OomScoreAdj       int
	PidMode           string
	Privileged        bool
	PublishAllPorts   bool
	ReadonlyRootfs    bool
	SecurityOpt       []string
	Tmpfs             map[string]string `json:",omitempty"`
	UTSMode           string
	ShmSize           int64
	Sysctls           map[string]string `json:",omitempty"`
	CPUShares         uint64            `json:"CpuShares"`
	Memory            int64
	NanoCpus          int64
	BlkioWeight       uint16
	CPUPeriod         uint64 `json:"CpuPeriod"`
	CPUQuota          int64  `json:"CpuQuota"`
	CpusetCpus        string
	CpusetMems        string
	Devices           []InspectDevice
	MemoryReservation int64
	MemorySwap        int64
	PidsLimit         *int64
	Ulimits           []InspectUlimit
	Init              *bool `json:",omitempty"`
	MaskedPaths       []string
	ReadonlyPaths     []string
}

// The smaller shapes of docker's inspect.
type (
	InspectLog struct {
		Type   string
		Config map[string]string
	}
	InspectRestart struct {
		Name              string
		MaximumRetryCount int
	}
	InspectPort struct {
		HostIP   string `json:"HostIp"` // docker's spelling
		HostPort string
	}
	InspectDevice struct {
		PathOnHost, PathInContainer, CgroupPermissions string
	}
	InspectUlimit struct {
		Name       string
		Hard, Soft int64
	}
	InspectGraph struct {
		Name string
		Data map[string]string
	}
	InspectMount struct {
		Type        string
		Name        string `json:",omitempty"`
		Source      string
		Destination string
		Driver      string `json:",omitempty"`
		Mode        string
		RW          bool
		Propagation string
	}
	InspectConfig struct {
		Hostname, Domainname, User              string
		AttachStdin, AttachStdout, AttachStderr bool
		ExposedPorts                            map[string]struct{} `json:",omitempty"`
		Tty, OpenStdin, StdinOnce               bool
		Env, Cmd                                []string
		Image                                   string
		Volumes                                 map[string]struct{}
		WorkingDir                              string
		Entrypoint                              []string
		Labels                                  map[string]string
		StopSignal                              string `json:",omitempty"`
		StopTimeout                             *int   `json:",omitempty"`
	}
	InspectNetwork struct {
		Bridge, SandboxID, SandboxKey string
		Ports                         map[string][]InspectPort
		Gateway, IPAddress            string
		IPPrefixLen                   int
		MacAddress                    string
		Networks                      map[string]InspectEndpoint
	}
	InspectEndpoint struct {
		MacAddress, NetworkID, EndpointID, Gateway, IPAddress string
		IPPrefixLen                                           int
		Aliases, DNSNames                                     []string
	}
)

// Inspect tells all about the container.
func (c *Container) Inspect() *Inspect {
	st := c.State()
	in := &Inspect{
		ID: c.ID, Created: c.Created, Path: c.Path, Args: list(c.Args),
		State: InspectState{
			Status: st.Status, Running: st.Status == Running || st.Status == Paused, Paused: st.Status == Paused,
			Restarting: st.Status == Restarting, OOMKilled: st.OOMKilled, Pid: st.Pid, ExitCode: st.ExitCode,
			Error: st.Error, StartedAt: st.StartedAt, FinishedAt: st.FinishedAt,
		},
		Image: c.ImageID, Name: "/" + c.Name, RestartCount: st.RestartCount,
		ResolvConfPath: c.dir + "/resolv.conf", HostnamePath: c.dir + "/hostname", HostsPath: c.dir + "/hosts", LogPath: c.logPath(),
		Driver: "overlay2", Platform: "linux", HostConfig: c.inspectHost(), Config: c.inspectConfig(),
		NetworkSettings: c.inspectNetwork(&st),
		GraphDriver: InspectGraph{Name: "overlay2", Data: map[string]string{
			"UpperDir": c.dir + "/upper", "WorkDir": c.dir + "/work", "LowerDir": strings.Join(reversed(c.lowerDirs()), ":"),
		}},
		Mounts: []InspectMount{},
	}
	for _, m := range c.Mounts {
		mode := m.Options
		if !m.RW {
			mode = append([]string{"ro"}, mode...)
		}
		im := InspectMount{Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination, RW: m.RW,
			Mode: strings.Join(mode, ","), Propagation: m.Propagation}
		if m.Type == "volume" {
			im.Driver = "local"
		}
		if m.Type == "bind" && m.Propagation == "" {
			im.Propagation = "rprivate"
		}
		in.Mounts = append(in.Mounts, im)
	}
	return in
}

// list makes nil an empty list, which docker prints as [].
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func reversed(s []string) []string {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

func (c *Container) inspectConfig() InspectConfig {
	o := &c.Options
	ic := InspectConfig{
		Hostname: c.Hostname, Domainname: o.Domainname, User: c.User,
		AttachStdin: o.Interactive && !o.Detach, AttachStdout: !o.Detach, AttachStderr: !o.Detach,
		Tty: o.TTY, OpenStdin: o.Interactive, StdinOnce: o.Interactive && !o.Detach,
		Env: list(c.Env), Cmd: c.Cmd, Image: c.Image, WorkingDir: c.Cwd, Entrypoint: c.Entrypoint,
		Labels: maps.Clone(c.Labels), StopSignal: c.StopSignal, StopTimeout: o.StopTime,
	}
	if ic.Labels == nil {
		ic.Labels = map[string]string{}
	}
	for _, m := range c.Mounts {
		if m.Type == "volume" && m.Anonymous {
			if ic.Volumes == nil {
				ic.Volumes = map[string]struct{}{}
			}
			ic.Volumes[m.Destination] = struct{}{}
		}
	}
	if len(c.Exposed)+len(c.Ports) > 0 {
		ic.ExposedPorts = map[string]struct{}{}
		for _, e := range c.Exposed {
			if !strings.Contains(e, "/") {
				e += "/tcp"
			}
			ic.ExposedPorts[e] = struct{}{}
		}
		for _, p := range c.Ports {
			ic.ExposedPorts[portKey(p)] = struct{}{}
		}
	}
	return ic
}

func portKey(p netns.Port) string { return fmt.Sprintf("%d/%s", p.ContainerPort, p.Proto) }

// portMap groups by container port, as docker does.
func portMap(ports []netns.Port) map[string][]InspectPort {
	m := map[string][]InspectPort{}
	for _, p := range ports {
		ip := ""
		if p.HostIP.IsValid() {
			ip = p.HostIP.String()
		}
		host := ""
		if p.HostPort != 0 {
			host = strconv.Itoa(int(p.HostPort))
		}
		m[portKey(p)] = append(m[portKey(p)], InspectPort{ip, host})
	}
	return m
}

func (c *Container) inspectNetwork(st *State) InspectNetwork {
	n := InspectNetwork{Ports: map[string][]InspectPort{}, Networks: map[string]InspectEndpoint{}}
	mode := c.Options.Network
	if _, shared := strings.CutPrefix(mode, "container:"); shared {
		return n
	}
	var e InspectEndpoint
	if st.Status == Running || st.Status == Paused {
		net := &st.Network
		n.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", st.Pid)
		if net.IP.IsValid() {
			e = InspectEndpoint{MacAddress: net.MAC, Gateway: net.Gateway.String(), IPAddress: net.IP.String(), IPPrefixLen: net.Bits}
			n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = e.Gateway, e.IPAddress, e.IPPrefixLen, e.MacAddress
		}
		for _, p := range net.Ports {
			if !p.HostIP.IsValid() {
				p.HostIP = anyAddr
			}
			for k, v := range portMap([]netns.Port{p}) {
				n.Ports[k] = append(n.Ports[k], v...)
			}
		}
	}
	n.Networks[mode] = e
	return n
}

// pairs are a list of KEY SEPARATOR VALUE, nil for an empty one.
func pairs(list []string, separator string) map[string]string {
	var m map[string]string
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, separator)
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
	}
	return m
}

func (c *Container) inspectHost() InspectHostConfig {
	o := &c.Options
	h := InspectHostConfig{
		Binds: list(o.Volumes), ContainerIDFile: o.CIDFile,
		LogConfig:   InspectLog{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": strconv.Itoa(maxLogFiles)}},
		NetworkMode: o.Network, PortBindings: portMap(c.Ports), AutoRemove: o.Remove, VolumesFrom: o.VolumesFrom,
		Annotations: pairs(o.Annotations, "="), CapAdd: o.CapAdd, CapDrop: o.CapDrop, CgroupnsMode: first(o.Cgroupns, "private"),
		DNS: []string{}, DNSOptions: list(o.DNSOption), DNSSearch: list(o.DNSSearch), ExtraHosts: o.AddHost, GroupAdd: o.GroupAdd,
		IpcMode: first(o.IPC, "private"), PidMode: o.PID, Privileged: o.Privileged, PublishAllPorts: o.PublishAll,
		ReadonlyRootfs: o.ReadOnly, SecurityOpt: o.SecurityOpt, UTSMode: o.UTS, ShmSize: o.ShmSize,
		CPUShares: o.CPUShares, Memory: o.Memory, NanoCpus: int64(o.CPUs*1e9 + 0.5), BlkioWeight: o.BlkioWeight,
		CPUPeriod: o.CPUPeriod, CPUQuota: o.CPUQuota, CpusetCpus: o.CpusetCPUs, CpusetMems: o.CpusetMems,
		MemoryReservation: o.MemoryReservation, PidsLimit: o.PidsLimit, Devices: []InspectDevice{},
	}
	for _, a := range o.DNS {
		h.DNS = append(h.DNS, a.String())
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	if o.MemorySwap != nil {
		h.MemorySwap = *o.MemorySwap
	} else {
		h.MemorySwap = 2 * o.Memory
	}
	if o.OOMScoreAdj != nil {
		h.OomScoreAdj = *o.OOMScoreAdj
	}
	if o.Init {
		h.Init = &o.Init
	}
	h.RestartPolicy.Name, h.RestartPolicy.MaximumRetryCount, _ = restartPolicy(o.Restart)
	if !o.Privileged {
		h.MaskedPaths, h.ReadonlyPaths = strings.Fields(maskedPaths), strings.Fields(readonlyPaths)
	}
	for _, spec := range o.Devices {
		if host, ctr, access, err := parseDevice(spec); err == nil {
			h.Devices = append(h.Devices, InspectDevice{host, ctr, access})
		}
	}
	h.Sysctls, h.Tmpfs = pairs(o.Sysctls, "="), pairs(o.Tmpfs, ":")
	limits, _ := rlimits(o.Ulimits)
	for _, l := range limits {
		name := strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_"))
		h.Ulimits = append(h.Ulimits, InspectUlimit{name, int64(l.Hard), int64(l.Soft)})
	}
	return h
}
