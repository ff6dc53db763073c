package cgroups

// DeviceRule allows or denies access to device nodes; of several that speak of
// the same access the last one counts. Reading, writing and making a node are
// judged each for itself, and an access needs all that it consists of.
type DeviceRule struct {
	Allow        bool
	Type         byte   // 'b', 'c', or 'a' for both
	Major, Minor int64  // -1: any
	Access       string // of r, w, m; empty: all
}

// Values of struct bpf_cgroup_dev_ctx (linux/bpf.h).
const (
	devBlock, devChar           = 1, 2
	accMknod, accRead, accWrite = 1, 2, 4
	accAll                      = accMknod | accRead | accWrite
)

// insn is struct bpf_insn.
type insn struct {
	op  uint8
	reg uint8 // destination, source in the upper half
	off int16
	imm int32
}

// Operations and registers of the filter (Documentation/bpf/standardization).
const (
	ldxW    = 0x61 // dst = *(u32 *)(src + off)
	mov64   = 0xbf // dst = src
	mov32k  = 0xb4
	and32k  = 0x54
	rsh32k  = 0x74
	jne32k  = 0x56
	jeq32k  = 0x16
	exit    = 0x95
	ctxReg  = 1
	kind    = 2
	access  = 3 // what is not decided yet
	major   = 4
	minor   = 5
	scratch = 6
)

// deviceProgram compiles rules: they are looked at from the last to the first,
// each decides what it speaks of, and what none speaks of is denied.
func deviceProgram(rules []DeviceRule) []insn {
	p := []insn{
		{ldxW, kind | ctxReg<<4, 0, 0},
		{mov64, access | kind<<4, 0, 0},
		{and32k, kind, 0, 0xffff},
		{rsh32k, access, 0, 16},
		{ldxW, major | ctxReg<<4, 4, 0},
		{ldxW, minor | ctxReg<<4, 8, 0},
	}
	for i := len(rules) - 1; i >= 0; i-- {
		rule := rules[i].compile()
		p = append(p, rule...)
		if len(rule) == 2 { // it speaks of everything: the kernel refuses code that is never reached
			return p
		}
	}
	return append(p, insn{mov32k, 0, 0, 0}, insn{exit, 0, 0, 0})
}

// compile gives the instructions of one rule; each test that fails jumps past
// its end.
func (r DeviceRule) compile() []insn {
	bits := accessBits(r.Access)
	var b []insn
	if bits == 0 {
		return nil
	}
	if r.Type == 'b' || r.Type == 'c' {
		t := int32(devBlock)
		if r.Type == 'c' {
			t = devChar
		}
		b = append(b, insn{jne32k, kind, 0, t})
	}
	if r.Major >= 0 {
		b = append(b, insn{jne32k, major, 0, int32(r.Major)})
	}
	if r.Minor >= 0 {
		b = append(b, insn{jne32k, minor, 0, int32(r.Minor)})
	}
	switch {
	case bits == accAll:
	case r.Allow: // goes on while anything is left
		b = append(b, insn{and32k, access, 0, accAll &^ bits}, insn{jne32k, access, 0, 0})
	default: // goes on if it is not concerned
		b = append(b, insn{mov64, scratch | access<<4, 0, 0}, insn{and32k, scratch, 0, bits}, insn{jeq32k, scratch, 0, 0})
	}
	verdict := int32(0)
	if r.Allow {
		verdict = 1
	}
	b = append(b, insn{mov32k, 0, 0, verdict}, insn{exit, 0, 0, 0})
	for i := range b {
		switch b[i].op {
		case jne32k, jeq32k:
			b[i].off = int16(len(b) - i - 1)
		}
	}
	return b
}

func accessBits(s string) int32 {
	if s == "" {
		return accAll
	}
	var bits int32
	for _, c := range s {
		switch c {
		case 'r':
			bits |= accRead
		case 'w':
			bits |= accWrite
		case 'm':
			bits |= accMknod
		}
	}
	return bits
}
