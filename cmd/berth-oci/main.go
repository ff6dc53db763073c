// The command berth-oci is the OCI runtime's face of berth alone. The program
// berth has it too, as "berth oci" or by a link of this name; but every start pays for
// each package that is linked, and callers like containerd start it four times for a
// container: without registry client, image store and command line it starts in
// two thirds of the time and memory.
package main

import (
	"os"

	"github.com/berth-run/berth/cmd/oci"
)

func main() { os.Exit(oci.Main(os.Args)) }
