package engine

import (
	"fmt"
	"io"
)

// Print writes the plan in the words of the kernel: shell commands for the
// cgroup, system calls for the process. It is the very plan that Start executes.
func (p *Plan) Print(w io.Writer) {
	if p.config.Cgroup != nil {
		fmt.Fprintln(w, "# on the host: the cgroup")
		p.config.Cgroup.Print(w)
		for _, d := range p.config.Devices {
			verb := "deny"
			if d.Allow {
				verb = "allow"
			}
			kind := d.Type
			if kind == "" {
				kind = "a"
			}
			fmt.Fprintf(w, "# device filter: %s %s %s:%s %s\n", verb, kind, number(d.Major), number(d.Minor), d.Access)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "# the process, which begins in that cgroup")
	p.child.Print(w)
}

func number(n *int64) string {
	if n == nil {
		return "*"
	}
	return fmt.Sprint(*n)
}
