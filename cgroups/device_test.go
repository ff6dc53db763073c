package cgroups

import "testing"

// verdict runs a device program as the kernel would.
func verdict(p []insn, kindOf, major, minor, acc uint32) uint32 {
	var r [7]uint32
	ctx := map[int16]uint32{0: kindOf | acc<<16, 4: major, 8: minor}
	for pc := 0; ; pc++ {
		i := p[pc]
		dst, src := i.reg&15, i.reg>>4
		jump := false
		switch i.op {
		case ldxW:
			r[dst] = ctx[i.off]
			continue
		case mov64:
			r[dst] = r[src]
		case mov32k:
			r[dst] = uint32(i.imm)
		case and32k:
			r[dst] &= uint32(i.imm)
		case rsh32k:
			r[dst] >>= uint32(i.imm)
		case jne32k:
			jump = r[dst] != uint32(i.imm)
		case jeq32k:
			jump = r[dst] == uint32(i.imm)
		case exit:
			return r[0]
		}
		if jump {
			pc += int(i.off)
		}
	}
}

func TestDeviceRules(t *testing.T) {
	rules := []DeviceRule{
		{Allow: false, Type: 'a', Major: -1, Minor: -1},
		{Allow: true, Type: 'c', Major: 1, Minor: 3, Access: "rwm"},
		{Allow: true, Type: 'c', Major: 10, Minor: -1, Access: "r"},
		{Allow: true, Type: 'b', Major: -1, Minor: -1, Access: "m"},
		{Allow: false, Type: 'c', Major: 1, Minor: 3, Access: "m"},
	}
	p := deviceProgram(rules)
	for _, c := range []struct {
		kind, major, minor, acc, want uint32
	}{
		{devChar, 1, 3, accRead | accWrite, 1}, {devChar, 1, 3, accMknod, 0}, {devChar, 1, 4, accRead, 0},
		{devChar, 10, 200, accRead, 1}, {devChar, 10, 200, accRead | accWrite, 0}, {devBlock, 8, 0, accMknod, 1},
		{devBlock, 8, 0, accRead, 0}, {devBlock, 1, 3, accRead, 0},
	} {
		if got := verdict(p, c.kind, c.major, c.minor, c.acc); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

// Rules that together allow an access allow it, as they do one after the other.
func TestDeviceRulesByAccess(t *testing.T) {
	p := deviceProgram([]DeviceRule{
		{Allow: true, Type: 'c', Major: 1, Minor: 11, Access: "r"},
		{Allow: true, Type: 'c', Major: 1, Minor: -1, Access: "w"},
		{Allow: true, Type: 'a', Major: -1, Minor: -1, Access: "m"},
		{Allow: false, Type: 'b', Major: -1, Minor: -1, Access: "mx"},
	})
	for _, c := range []struct {
		kind, major, minor, acc, want uint32
	}{
		{devChar, 1, 11, accRead | accWrite, 1}, {devChar, 1, 12, accRead | accWrite, 0}, {devChar, 1, 12, accWrite, 1},
		{devChar, 9, 9, accMknod, 1}, {devBlock, 9, 9, accMknod, 0}, {devChar, 1, 11, accAll, 1},
	} {
		if got := verdict(p, c.kind, c.major, c.minor, c.acc); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
	// What runc gives every container: mknod of all, use of some.
	p = deviceProgram(append([]DeviceRule{{Type: 'a', Major: -1, Minor: -1, Access: "rwm"}}, AllowedDevices()...))
	for _, c := range []struct {
		kind, major, minor, acc, want uint32
	}{
		{devChar, 1, 3, accRead | accWrite, 1}, {devChar, 136, 7, accRead, 1}, {devChar, 1, 11, accRead, 0},
		{devChar, 1, 11, accMknod, 1}, {devBlock, 8, 0, accMknod, 1}, {devBlock, 8, 0, accRead, 0},
	} {
		if got := verdict(p, c.kind, c.major, c.minor, c.acc); got != c.want {
			t.Errorf("allowed devices: %+v: got %d", c, got)
		}
	}
	if p := deviceProgram([]DeviceRule{{Type: 'c', Major: 1, Minor: 1, Access: "x"}}); verdict(p, devChar, 1, 1, accRead) != 0 {
		t.Error("a rule without access allows")
	}
}
