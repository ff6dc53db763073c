// Package first runs the OCI runtime's commands before anything that they do
// not need is initialised.
//
// It is to package early what that is to main (see there for the order in which
// Go initialises packages): a caller like containerd starts the program several
// times for every container, and needs none of the other face.
package first

import (
	"os"
	"strings"

	"github.com/berth-run/berth/cmd/oci"
)

func init() {
	args := face(os.Args)
	if args == nil {
		return
	}
	// Not on the main thread, to which the main goroutine is locked while inits run.
	done := make(chan int)
	go func() { done <- oci.Main(args) }()
	os.Exit(<-done)
}

// face returns the command line for package oci, nil if the program was not
// called as an OCI runtime: by a name like berth-oci, or as "berth oci".
func face(args []string) []string {
	name := args[0][strings.LastIndexByte(args[0], '/')+1:]
	switch {
	case name == "runc" || strings.HasSuffix(name, "-oci"):
		return args
	case len(args) > 1 && args[1] == "oci" && !strings.HasSuffix(name, ".test"):
		return append([]string{args[0] + " oci"}, args[2:]...)
	}
	return nil
}
