package cmd

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/image"
	"github.com/berth-run/berth/netns"
)

var errNoNetwork = errors.New("no such network")

func networkCommands() []entry {
	return []entry{
		{name: "inspect", about: "show all there is to know of networks", min: 1, max: -1, build: func(a *app) *cli.Command {
			return a.inspectOnly("network", "show all there is to know of networks")
		}},
		{name: "ls", about: "list networks", build: (*app).networkListCommand},
		{name: "list", about: "list networks", build: (*app).networkListCommand, hidden: true},
	}
}

// networks are those that are always there, by name and driver.
func networks() [][2]string {
	return [][2]string{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}}
}

// networkID stands for docker's: it must be there and stay the same.
func networkID(name string) string {
	return image.Digest([]byte("berth network " + name))[len("sha256:"):]
}

func (a *app) networkListCommand() *cli.Command {
	return &cli.Command{
		Usage: "list networks",
		Flags: []cli.Flag{
			list("filter,f", "filter", "only those that fit (name=…, driver=…)"),
			text("format", "string", "table, json, or a Go template"),
			yes("no-trunc", "do not shorten"),
			yes("quiet,q", "ids only"),
		},
		Action: func(c *cli.Context) error {
			f, err := parseFilters(c.StringSlice("filter"), "driver", "id", "name")
			if err != nil {
				return err
			}
			type row struct{ CreatedAt, Driver, ID, IPv6, Internal, Labels, Name, Scope string }
			var rows []row
			for _, n := range networks() {
				id := networkID(n[0])
				if !c.Bool("no-trunc") {
					id = short(id)
				}
				if f.name(n[0]) && f.any("driver", func(v string) bool { return v == n[1] }) {
					rows = append(rows, row{Driver: n[1], ID: id, IPv6: "false", Internal: "false", Name: n[0], Scope: "local"})
				}
			}
			format := c.String("format")
			if c.Bool("quiet") {
				format = "{{.ID}}"
			}
			header := row{"CREATED AT", "DRIVER", "NETWORK ID", "IPV6", "INTERNAL", "LABELS", "NAME", "SCOPE"}
			return show(a.out, format, "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", header, rows)
		},
	}
}

// networkInspect is docker's JSON of a network (API v1.44, GET /networks/ID).
type networkInspect struct {
	Name                 string
	ID                   string `json:"Id"`
	Scope                string
	Driver               string
	EnableIPv6, Internal bool
	IPAM                 struct {
		Driver string
		Config []networkRange
	}
	Containers map[string]networkMember
	Options    map[string]string
	Labels     map[string]string
}

type networkRange struct{ Subnet, Gateway string }

type networkMember struct{ Name, MacAddress, IPv4Address string }

func (a *app) inspectNetwork(name string) (any, error) {
	for _, n := range networks() {
		if name == n[0] || name == networkID(n[0]) {
			return a.networkFacts(n[0], n[1])
		}
	}
	return nil, fmt.Errorf("%w: %s", errNoNetwork, name)
}

func (a *app) networkFacts(name, driver string) (*networkInspect, error) {
	in := &networkInspect{Name: name, ID: networkID(name), Scope: "local", Driver: driver,
		Containers: map[string]networkMember{}, Options: map[string]string{}, Labels: map[string]string{}}
	in.IPAM.Driver, in.IPAM.Config = "default", []networkRange{}
	if name == "bridge" {
		p, err := netns.Explain(a.root, netns.Request{ID: networkID(name)})
		if err != nil {
			return nil, fmt.Errorf("look at network %s: %w", name, err)
		}
		in.IPAM.Config = append(in.IPAM.Config, networkRange{p.Bridge.Subnet.String(), p.Bridge.Gateway.String()})
		in.Options["com.docker.network.bridge.name"] = p.Bridge.Name
	}
	all, err := a.store.List()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		st := c.State()
		if c.Options.Network != name || st.Pid == 0 {
			continue
		}
		m := networkMember{Name: c.Name, MacAddress: st.Network.MAC}
		if st.Network.IP.IsValid() {
			m.IPv4Address = fmt.Sprintf("%s/%d", st.Network.IP, st.Network.Bits)
		}
		in.Containers[c.ID] = m
	}
	return in, nil
}
