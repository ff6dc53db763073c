package engine

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/cgroups"
)

// filterDevices puts the spec's device rules on the cgroup, in their order.
func filterDevices(cgroup *os.File, list []specs.LinuxDeviceCgroup) error {
	if len(list) == 0 {
		return nil
	}
	rules := make([]cgroups.DeviceRule, len(list))
	for i, d := range list {
		r := cgroups.DeviceRule{Allow: d.Allow, Type: 'a', Major: -1, Minor: -1, Access: d.Access}
		if d.Type != "" {
			r.Type = d.Type[0]
		}
		if d.Major != nil {
			r.Major = *d.Major
		}
		if d.Minor != nil {
			r.Minor = *d.Minor
		}
		rules[i] = r
	}
	return cgroups.DeviceFilter(cgroup, rules)
}
