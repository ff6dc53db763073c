package container

import (
	"slices"

	"github.com/berth-run/berth/netns"
)

// parsePorts reads -p; with -P also what the image and --expose expose, on
// host ports that are chosen when the container starts.
func parsePorts(o *Options, exposed []string) ([]netns.Port, error) {
	var ports []netns.Port
	for _, spec := range o.Ports {
		p, err := netns.ParsePort(spec)
		if err != nil {
			return nil, err
		}
		ports = append(ports, p...)
	}
	if !o.PublishAll {
		return ports, nil
	}
	for _, e := range exposed {
		p, err := netns.ParsePort(e)
		if err != nil {
			return nil, err
		}
		for _, q := range p {
			if !slices.ContainsFunc(ports, func(x netns.Port) bool { return x.ContainerPort == q.ContainerPort && x.Proto == q.Proto }) {
				ports = append(ports, q)
			}
		}
	}
	return ports, nil
}
