// Package early runs berth before the registry client is initialised.
//
// Go initialises packages one by one, always the first in the order of import
// paths whose imports are all initialised ("Program initialization" in the
// language specification; cmd/link, inittask.go). This package and all it
// imports have paths that come before net/http, and net/http waits for packages
// below vendor/, which come last. So its init is called first. If the command can
// do without a registry the process ends here and pays for nothing more.
package early

import (
	"os"
	"strings"

	"github.com/berth-run/berth/cmd"
)

func init() {
	if strings.HasSuffix(os.Args[0], ".test") {
		return
	}
	// The main goroutine is locked to the main thread while inits run, which
	// makes each switch to another goroutine one between threads: work elsewhere.
	more := make(chan bool)
	go func() {
		if code := cmd.Main(os.Args, nil); code != cmd.NeedRegistry {
			os.Exit(code)
		}
		close(more)
	}()
	<-more
}
