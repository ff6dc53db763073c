package child

import (
	"math/rand"
	"strings"
	"testing"

	"github.com/berth-run/berth/runtime/step"
)

// randomArg is an argument of any shape, with others below it.
func randomArg(r *rand.Rand, deep int) step.Arg {
	text := func() string { return strings.Repeat("s", r.Intn(20)) }
	switch r.Intn(6) {
	case 0:
		return step.Int(r.Int())
	case 1:
		return step.Str(text())
	case 2:
		v := make([]string, r.Intn(4))
		for i := range v {
			v[i] = text()
		}
		return step.Strings(v)
	case 3:
		return step.Struct(nil, make([]uint64, 1+r.Intn(5))...)
	case 4:
		return step.Blob("", make([]byte, r.Intn(20)))
	}
	m := &step.Memory{Bytes: make([]byte, 16+r.Intn(20)), Fixups: map[int]step.Arg{}}
	for at := 0; deep > 0 && at < r.Intn(3); at++ {
		m.Fixups[8*at] = randomArg(r, deep-1)
	}
	return step.Arg{To: m}
}

// TestSizeOfIsEnough: no plan takes more than was counted, which newRegion looks
// at. Every length of a string is among them: room is taken in units of 8 bytes.
func TestSizeOfIsEnough(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 2000 {
		calls := make([]step.Call, 1+r.Intn(8))
		for i := range calls {
			calls[i].Name = "any"
			if r.Intn(2) == 0 {
				calls[i].Out = &step.Result{}
			}
			for range r.Intn(7) {
				calls[i].Args = append(calls[i].Args, randomArg(r, 3))
			}
		}
		region, err := newRegion(calls, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := region.free(); err != nil {
			t.Fatal(err)
		}
	}
}
