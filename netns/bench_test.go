package netns

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkApplyRelease is what the network adds to one `berth run --rm`:
// Decide, Apply and Release, with the container's end in between.
func BenchmarkApplyRelease(b *testing.B) {
	isolated(b)
	for _, ports := range []int{0, 2} {
		b.Run(fmt.Sprintf("ports=%d", ports), func(b *testing.B) {
			root := b.TempDir()
			start(b, root, "keeper") // the bridge is there already
			var list []Port
			for i := range ports {
				list = append(list, Port{HostPort: 9000 + uint16(i), ContainerPort: 80, Proto: "tcp"})
			}
			var decide, apply, release time.Duration
			for i := range b.N {
				cmd := container(b, "x")
				id := fmt.Sprintf("%08x%08x", hash(fmt.Sprint(i)), i)
				t0 := time.Now()
				p, err := Decide(root, Request{ID: id, Ports: list})
				t1 := time.Now()
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Apply(cmd.Process.Pid); err != nil {
					b.Fatal(err)
				}
				t2 := time.Now()
				stop(cmd)
				t3 := time.Now()
				if err := Release(root, id); err != nil {
					b.Fatal(err)
				}
				decide, apply, release = decide+t1.Sub(t0), apply+t2.Sub(t1), release+time.Since(t3)
			}
			for name, d := range map[string]time.Duration{"decide": decide, "apply": apply, "release": release} {
				b.ReportMetric(float64(d.Microseconds())/float64(b.N), name+"-us")
			}
		})
	}
}
