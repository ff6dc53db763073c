package cmd

import (
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

// containerFlags are those of run and create: docker's names and letters.
func containerFlags() []cli.Flag {
	flags := append(limitFlags(),
		list("add-host", "list", "add a line to /etc/hosts (host:ip)"),
		list("annotation", "list", "add an annotation to the OCI spec (key=value)"),
		list("attach,a", "list", "attach to stdin, stdout or stderr"),
		list("cap-add", "list", "add a Linux capability"),
		list("cap-drop", "list", "drop a Linux capability"),
		text("cgroupns", "string", "cgroup namespace: private or host"),
		text("cidfile", "string", "write the container's id to the file"),
		text("detach-keys", "string", "keys that detach from the terminal (default ctrl-p,ctrl-q)"),
		yes("disable-content-trust", ""), // docker's default, and all there is here
		list("device", "list", "give access to a device of the host (host[:container[:rwm]])"),
		list("dns", "list", "set a DNS server"),
		list("dns-option,dns-opt", "list", "set a DNS option"),
		list("dns-search", "list", "set a DNS search domain"),
		text("domainname", "string", "NIS domain name of the container"),
		text("entrypoint", "string", "replace the image's ENTRYPOINT"),
		list("env,e", "list", "set an environment variable; NAME alone takes the caller's"),
		list("env-file", "list", "read environment variables from a file"),
		list("expose", "list", "expose a port or a range of ports"),
		list("group-add", "list", "add supplementary groups"),
		text("hostname,h", "string", "host name of the container"),
		yes("init", "run berth's 12 kB init as process 1: it passes signals on and reaps"),
		yes("interactive,i", "keep stdin open"),
		text("ipc", "string", "IPC namespace: private, host, container:NAME"),
		list("label,l", "list", "set a label"),
		list("label-file", "list", "read labels from a file"),
		text("log-driver", "string", ""),
		text("mac-address", "string", "MAC address (92:d0:c6:0a:29:33)"),
		list("mount", "mount", "attach a file system (type=bind,src=…,dst=…)"),
		text("name", "string", "name of the container"),
		text("network,net", "network", "network: bridge, host, none, container:NAME (default bridge)"),
		yes("no-healthcheck", ""), // none is run
		text("oom-score-adj", "int", "the host's preference to kill it (-1000 to 1000)"),
		text("pid", "string", "PID namespace: host, container:NAME"),
		text("platform", "string", "platform of the image, as linux/arm64"),
		yes("privileged", "all capabilities, all devices, no filter: as good as no container"),
		list("publish,p", "list", "publish a port to the host ([[ip:]host:]container[/proto])"),
		yes("publish-all,P", "publish all exposed ports to free ports of the host"),
		text("pull", "string", "pull the image before running: always, missing, never (default missing)"),
		yes("quiet,q", "no progress of a pull"),
		yes("read-only", "mount the container's root file system read-only"),
		text("restart", "string", "what to do when it ends: no, always, unless-stopped, on-failure[:tries]"),
		yes("rm", "remove the container and its anonymous volumes when it ends"),
		list("security-opt", "list", "security options (seccomp=…, no-new-privileges)"),
		text("shm-size", "bytes", "size of /dev/shm (default 64m)"),
		text("stop-signal", "string", "signal that stops the container"),
		text("stop-timeout", "int", "seconds to wait before it is killed"),
		list("sysctl", "map", "set a kernel parameter of its namespaces (key=value)"),
		list("tmpfs", "list", "mount a tmpfs (dir[:options])"),
		yes("tty,t", "give it a terminal"),
		list("ulimit", "ulimit", "set a resource limit (name=soft[:hard])"),
		text("user,u", "string", "user name or uid (name|uid[:group|gid])"),
		text("uts", "string", "UTS namespace: host"),
		list("volume,v", "list", "mount a folder or a volume ([source:]dir[:options])"),
		list("volumes-from", "list", "mount the volumes of another container"),
		text("workdir,w", "string", "working directory inside the container"),
	)
	return flags
}

// limitFlags are those of run, create and update.
func limitFlags() []cli.Flag {
	return []cli.Flag{
		text("blkio-weight", "uint16", "block IO weight (10 to 1000)"),
		text("cpu-period", "int", "length of a CPU period in microseconds"),
		text("cpu-quota", "int", "CPU time per period in microseconds"),
		text("cpu-shares,c", "int", "CPU shares, relative to other containers (1024 is usual)"),
		text("cpus", "decimal", "number of CPUs, as 1.5"),
		text("cpuset-cpus", "string", "CPUs that may be used, as 0-3,7"),
		text("cpuset-mems", "string", "memory nodes that may be used"),
		text("memory,m", "bytes", "memory limit, as 64m"),
		text("memory-reservation", "bytes", "memory that is not taken away while others have more"),
		text("memory-swap", "bytes", "limit of memory and swap together, -1 for no limit"),
		text("pids-limit", "int", "number of processes and threads, -1 for no limit"),
	}
}

// flagReader reads flags and keeps the first thing that is wrong.
type flagReader struct {
	c   *cli.Context
	err error
}

func (r *flagReader) bad(name, value, want string) {
	if r.err == nil {
		r.err = badValue("--"+name, value, want)
	}
}

func (r *flagReader) size(name string) int64 {
	s := r.c.String(name)
	if s == "" && !r.c.IsSet(name) {
		return 0
	}
	n, ok := parseSize(s)
	if !ok {
		r.bad(name, s, "a size, as 512, 64m or 1.5g")
	}
	return n
}

// number reads a whole number between lo and hi; ok tells that it was given.
func (r *flagReader) number(name string, lo, hi int64) (n int64, ok bool) {
	if !r.c.IsSet(name) {
		return 0, false
	}
	s := r.c.String(name)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < lo || n > hi {
		want := "a number, " + strconv.FormatInt(lo, 10) + " or more"
		if hi < math.MaxInt64 {
			want = "a number from " + strconv.FormatInt(lo, 10) + " to " + strconv.FormatInt(hi, 10)
		}
		r.bad(name, s, want)
		return 0, false
	}
	return n, true
}

func (r *flagReader) int(name string, lo, hi int64) *int {
	n, ok := r.number(name, lo, hi)
	if !ok {
		return nil
	}
	i := int(n)
	return &i
}

// one of the words, or absent.
func (r *flagReader) oneOf(name string, words ...string) string {
	s := r.c.String(name)
	if s == "" {
		return ""
	}
	want := ""
	for i, w := range words {
		if s == w {
			return s
		}
		switch {
		case i == len(words)-1:
			want += " or "
		case i > 0:
			want += ", "
		}
		want += w
	}
	r.bad(name, s, want)
	return ""
}

// containerOptions reads the flags of run and create, and the arguments.
func containerOptions(c *cli.Context) (container.Options, error) {
	r := &flagReader{c: c}
	o := container.Options{
		Name: c.String("name"), Image: c.Args().First(), Args: c.Args().Tail(),
		Detach: c.Bool("detach"), Remove: c.Bool("rm"), CIDFile: c.String("cidfile"), Platform: c.String("platform"),
		Pull:        r.oneOf("pull", "always", "missing", "never"),
		Interactive: c.Bool("interactive"), TTY: c.Bool("tty"), DetachKeys: c.String("detach-keys"), SigProxy: sigProxy(c),
		Env: c.StringSlice("env"), EnvFile: c.StringSlice("env-file"), Labels: c.StringSlice("label"), LabelFile: c.StringSlice("label-file"),
		Workdir: c.String("workdir"), User: c.String("user"), GroupAdd: c.StringSlice("group-add"),
		Hostname: c.String("hostname"), Domainname: c.String("domainname"),
		StopSignal: c.String("stop-signal"), StopTime: r.int("stop-timeout", -1, math.MaxInt32),
		Volumes: c.StringSlice("volume"), Mounts: c.StringSlice("mount"), Tmpfs: c.StringSlice("tmpfs"),
		VolumesFrom: c.StringSlice("volumes-from"), ShmSize: r.size("shm-size"), ReadOnly: c.Bool("read-only"),
		Network: c.String("network"), Ports: c.StringSlice("publish"), PublishAll: c.Bool("publish-all"),
		AddHost: c.StringSlice("add-host"), DNSSearch: c.StringSlice("dns-search"), DNSOption: c.StringSlice("dns-option"),
		PID: c.String("pid"), IPC: c.String("ipc"), UTS: c.String("uts"), Cgroupns: c.String("cgroupns"),
		CapAdd: c.StringSlice("cap-add"), CapDrop: c.StringSlice("cap-drop"), Privileged: c.Bool("privileged"),
		SecurityOpt: c.StringSlice("security-opt"), Init: c.Bool("init"), Ulimits: c.StringSlice("ulimit"),
		Sysctls: c.StringSlice("sysctl"), Devices: c.StringSlice("device"), OOMScoreAdj: r.int("oom-score-adj", -1000, 1000),
		Restart: c.String("restart"), Explain: c.Bool("explain"), Expose: c.StringSlice("expose"),
		MAC: c.String("mac-address"), Annotations: c.StringSlice("annotation"),
	}
	if c.IsSet("entrypoint") {
		e := c.String("entrypoint")
		o.Entrypoint = &e
	}
	for _, s := range c.StringSlice("dns") {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			r.bad("dns", s, "an IP address")
		}
		o.DNS = append(o.DNS, ip)
	}
	if d := c.String("log-driver"); d != "" && d != "json-file" {
		r.bad("log-driver", d, "json-file, the only one there is")
	}
	r.limits(&o)
	if o.Image == "" && r.err == nil {
		r.err = fail("the image's name is empty", "berth run IMAGE; see berth images")
	}
	return o, r.err
}

// limits reads the flags of limitFlags.
func (r *flagReader) limits(o *container.Options) {
	c := r.c
	o.Memory, o.MemoryReservation = r.size("memory"), r.size("memory-reservation")
	if s := c.String("memory-swap"); s == "-1" {
		all := int64(-1)
		o.MemorySwap = &all
	} else if c.IsSet("memory-swap") {
		n := r.size("memory-swap")
		o.MemorySwap = &n
	}
	if c.IsSet("cpus") {
		s := c.String("cpus")
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n >= 0 && n < 1e6) {
			r.bad("cpus", s, "a number of CPUs, as 0.5 or 2")
		}
		o.CPUs = n
	}
	shares, _ := r.number("cpu-shares", 0, 262144)
	period, _ := r.number("cpu-period", 0, 1e6)
	weight, _ := r.number("blkio-weight", 0, 1000)
	o.CPUShares, o.CPUPeriod, o.BlkioWeight = uint64(shares), uint64(period), uint16(weight)
	o.CPUQuota, _ = r.number("cpu-quota", -1, math.MaxInt64)
	o.CpusetCPUs, o.CpusetMems = c.String("cpuset-cpus"), c.String("cpuset-mems")
	if n, ok := r.number("pids-limit", -1, math.MaxInt64); ok {
		o.PidsLimit = &n
	}
}

// sigProxy is on unless --sig-proxy=false.
func sigProxy(c *cli.Context) bool { return !c.IsSet("sig-proxy") || c.Bool("sig-proxy") }

func (r *flagReader) moment(name, s string) time.Time {
	t, ok := parseMoment(s)
	if !ok {
		r.bad(name, s, "a time, as 2026-01-02T13:23:37Z, or a span, as 10m")
	}
	return t
}
