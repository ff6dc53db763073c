package container

import (
	"os"
	"testing"

	"github.com/berth-run/berth/image"
)

// BenchmarkCreateRemove is all that `run --rm` does beside the kernel's part.
func BenchmarkCreateRemove(b *testing.B) {
	root := b.TempDir()
	images, err := image.Open(root)
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(root, images)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, err := s.Create(nil, Options{Image: HostImage, Args: []string{"true"}, Network: "none", Remove: true})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.writeNetworkFiles(Network{}); err != nil {
			b.Fatal(err)
		}
		r := &running{c: c, log: &logFile{path: c.logPath()}}
		r.st.Pid = os.Getpid()
		if err := r.c.writeState(r.st, true); err != nil {
			b.Fatal(err)
		}
		unlock, err := c.lock()
		if err != nil {
			b.Fatal(err)
		}
		if err := c.remove(true); err != nil {
			b.Fatal(err)
		}
		unlock()
	}
}
