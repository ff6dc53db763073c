package engine

import (
	"fmt"
	"io"

	"github.com/berth-run/berth/cgroups"
)

// Print writes the plan in the words of the kernel: shell commands for the
// cgroup, system calls for the process. It is the very plan that Start executes.
func (p *Plan) Print(w io.Writer) {
	if p.config.Cgroup != nil {
		fmt.Fprintln(w, "# on the host: the cgroup")
		p.config.Cgroup.Print(w)
		for _, d := range p.config.Devices {
			fmt.Fprintln(w, "# device filter: "+deviceRule(d))
		}
		fmt.Fprintln(w)
	}
	if p.config.Resctrl != nil {
		fmt.Fprintln(w, "# on the host: the share of cache and memory bandwidth")
		p.config.Resctrl.Print(w)
		fmt.Fprintln(w)
	}
	for _, t := range p.takes {
		fmt.Fprintf(w, "# by the caller, who may: %s for %s\n", t.Path, t.Target)
	}
	fmt.Fprintln(w, "# the process, which begins in that cgroup")
	p.child.Print(w)
}

// deviceRule prints a rule as cgroup v1 had them: allow c 1:3 rwm.
func deviceRule(d cgroups.DeviceRule) string {
	verb := "deny"
	if d.Allow {
		verb = "allow"
	}
	number := func(n int64) string {
		if n < 0 {
			return "*"
		}
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s %c %s:%s %s", verb, d.Type, number(d.Major), number(d.Minor), d.Access)
}
