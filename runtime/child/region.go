package child

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// header stands at the start of the region's data. Offsets: layout.h.
type header struct {
	ops    uint64 // address of the first op
	errfd  uint64 // where an error is told
	report [2]uint32
	status uint64 // the reaper's: of wait4
	all    uint64 // the reaper's: the set of all signals
	handed uint64 // pid of the process that the rest of the plan was handed to
}

// op is one system call as the interpreter reads it. Offsets: layout.h.
type op struct {
	nr     uint64
	args   [6]uint64
	save   uint64 // address that takes the result, 0: none
	hole   uint64 // a second one, of 4 bytes
	refs   uint32 // bit i: args[i] is the address of the value
	flags  uint32
	may    [3]uint32 // errors that do not end the plan
	skip   uint32    // calls passed over after one of them
	then   uint32    // calls passed over after success
	_      uint32
	result uint64 // written by the child
	tick   uint64 // likewise: the processor's counter after the call
}

const (
	flagNonZero = 1
	flagReap    = 2
	flagHand    = 4
	flagOnce    = 8 // not made again after EINTR

	codeSize   = 1024 // at least the interpreter's text
	headerSize = int(unsafe.Sizeof(header{}))
	opSize     = int(unsafe.Sizeof(op{}))
)

// region is the memory that the child keeps: a page of code, private and not
// writable, then header, table, results and strings, shared with the parent.
type region struct {
	base uintptr
	mem  []byte // code page included
	data []byte // without it
	nops int
}

// ErrFD is the result under which a plan speaks of the error pipe: a step that
// moves the pipe stores its new number there.
var ErrFD = &step.Result{Name: "err"}

// layout collects a plan's data before its address is known.
type layout struct {
	data   []byte
	fixups []fixup
	slots  map[*step.Result]int // offset of a result's 8 bytes
	holes  map[*step.Result]int // offset of a second place for it
	arrays map[*string]int      // offset of a vector by its first string: execve is tried with the same many times
}

type fixup struct {
	at    int // offset of 8 bytes in data
	place step.Place
	add   uint64 // for Nowhere: an offset in data, made an address
}

// newRegion encodes the calls. errfd is the descriptor of the error pipe.
func newRegion(calls []step.Call, errfd int) (*region, error) {
	l := &layout{
		data:   make([]byte, headerSize+opSize*(len(calls)), headerSize+opSize*len(calls)+16384),
		slots:  map[*step.Result]int{ErrFD: int(unsafe.Offsetof(header{}.errfd))},
		holes:  map[*step.Result]int{},
		arrays: map[*string]int{},
	}
	binary.NativeEndian.PutUint64(l.data[8:], uint64(errfd))
	binary.NativeEndian.PutUint64(l.data[unsafe.Offsetof(header{}.all):], ^uint64(0))
	l.fixups = append(l.fixups, fixup{0, step.Nowhere, uint64(headerSize)})
	for i := range calls {
		if err := l.call(headerSize+i*opSize, &calls[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", calls[i].Name, err)
		}
	}
	// A hole is known only after the call that stores into it was laid out.
	for i := range calls {
		if off, ok := l.holes[calls[i].Out]; ok && calls[i].Out != nil {
			l.pointer(headerSize+i*opSize+int(unsafe.Offsetof(op{}.hole)), off)
		}
	}
	return l.place(len(calls))
}

func (l *layout) put(at int, v uint64) { binary.NativeEndian.PutUint64(l.data[at:], v) }

// pointer makes the 8 bytes at an offset the address of another offset.
func (l *layout) pointer(at, to int) {
	l.fixups = append(l.fixups, fixup{at, step.Nowhere, uint64(to)})
}

func (l *layout) call(at int, c *step.Call) error {
	if len(c.Args) > 6 || len(c.May) > 3 {
		return fmt.Errorf("more than six arguments or three tolerated errors")
	}
	l.put(at, uint64(c.Nr))
	var refs, flags uint32
	for i, a := range c.Args {
		if a.From != nil {
			refs |= 1 << i
		}
		if err := l.arg(at+8+8*i, a); err != nil {
			return err
		}
	}
	if c.Out != nil {
		l.pointer(at+int(unsafe.Offsetof(op{}.save)), l.slot(c.Out))
	}
	if c.NonZero {
		flags |= flagNonZero
	}
	if c.Reap {
		flags |= flagReap
	}
	if c.Hand {
		flags |= flagHand
	}
	if c.Nr == unix.SYS_CLOSE {
		flags |= flagOnce // Linux closes it in any case (close(2))
	}
	ne := binary.NativeEndian
	ne.PutUint32(l.data[at+int(unsafe.Offsetof(op{}.refs)):], refs)
	ne.PutUint32(l.data[at+int(unsafe.Offsetof(op{}.flags)):], flags)
	for i, e := range c.May {
		ne.PutUint32(l.data[at+int(unsafe.Offsetof(op{}.may))+4*i:], uint32(e))
	}
	ne.PutUint32(l.data[at+int(unsafe.Offsetof(op{}.skip)):], uint32(c.Skip))
	ne.PutUint32(l.data[at+int(unsafe.Offsetof(op{}.then)):], uint32(c.Then))
	return nil
}

// slot is where a result lies; a new one for each call that makes it.
func (l *layout) slot(r *step.Result) int {
	if off, ok := l.slots[r]; ok {
		return off
	}
	off := l.alloc(8)
	l.put(off, uint64(r.None))
	l.slots[r] = off
	return off
}

func (l *layout) alloc(n int) int {
	off := len(l.data)
	l.data = append(l.data, make([]byte, (n+7)&^7)...)
	return off
}

// arg stores an argument's value, or its address, into 8 bytes.
func (l *layout) arg(at int, a step.Arg) error {
	switch {
	case a.From != nil:
		off, ok := l.slots[a.From]
		if !ok {
			return fmt.Errorf("$%s is used before it is made", a.From.Name)
		}
		l.pointer(at, off)
	case a.Place != step.Nowhere:
		l.fixups = append(l.fixups, fixup{at, a.Place, a.Value})
	case a.To != nil:
		return l.memory(at, a.To)
	default:
		if s, ok := a.String(); ok {
			return l.str(at, s)
		}
		l.put(at, a.Value)
	}
	return nil
}

// str stores a string and its address. The kernel would read it up to its first
// NUL and no further: another path than the one that was looked at.
func (l *layout) str(at int, s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%q holds a NUL byte", s)
	}
	off := l.alloc(len(s) + 1)
	copy(l.data[off:], s)
	l.pointer(at, off)
	return nil
}

// memory stores what an argument points at, and its address.
func (l *layout) memory(at int, m *step.Memory) error {
	if m.Vector != nil {
		var first *string
		if len(m.Vector) > 0 {
			first = &m.Vector[0]
			if off, ok := l.arrays[first]; ok {
				l.pointer(at, off)
				return nil
			}
		}
		off := l.alloc(8 * (len(m.Vector) + 1))
		l.arrays[first] = off
		l.pointer(at, off)
		for i, s := range m.Vector {
			if err := l.str(off+8*i, s); err != nil {
				return err
			}
		}
		return nil
	}
	off := l.alloc(len(m.Bytes))
	copy(l.data[off:], m.Bytes)
	l.pointer(at, off)
	if m.Hole != nil {
		l.holes[m.Hole.Of] = off + m.Hole.Offset
	}
	for in, f := range m.Fixups {
		if err := l.arg(off+in, f); err != nil {
			return err
		}
	}
	return nil
}

// place maps the region and makes offsets addresses.
func (l *layout) place(nops int) (*region, error) {
	page := unix.Getpagesize()
	size := page + (len(l.data)+page-1)/page*page
	// Reserve, then map over it: code private (nobody who traces the child can
	// change the parent's copy), data shared.
	addr, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map the plan: %w", err)
	}
	r := &region{base: uintptr(addr), mem: unsafe.Slice((*byte)(addr), size), nops: nops}
	r.data = r.mem[page:]
	if _, err := unix.MmapPtr(-1, 0, unsafe.Add(addr, page), uintptr(size-page), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_FIXED); err != nil {
		r.free()
		return nil, fmt.Errorf("map the plan: %w", err)
	}
	copy(r.mem, unsafe.Slice((*byte)(pointer(entry())), codeSize))
	copy(r.data, l.data)
	end := uint64(r.base) + uint64(size)
	for _, f := range l.fixups {
		v := f.add
		switch f.place {
		case step.Nowhere:
			v += uint64(r.base) + uint64(page)
		case step.RegionStart:
			v += uint64(r.base)
		case step.RegionEnd:
			v += end
		case step.SignalHandler:
			v = uint64(r.base) + uint64(handlerEntry()-entry())
		case step.AboveRegion:
			v = taskSize() - end
		}
		binary.NativeEndian.PutUint64(r.data[f.at:], v)
	}
	if err := unix.Mprotect(r.mem[:page], unix.PROT_READ|unix.PROT_EXEC); err != nil {
		r.free()
		return nil, fmt.Errorf("make the interpreter executable: %w", err)
	}
	return r, nil
}

// pointer makes an address of text a pointer; text does not move.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

func (r *region) header() uintptr { return r.base + uintptr(unix.Getpagesize()) }

func (r *region) free() error { return unix.MunmapPtr(pointer(r.base), uintptr(len(r.mem))) }

// handed is the pid of the process that took over, 0 if none did.
func (r *region) handed() int {
	return int(binary.NativeEndian.Uint64(r.data[unsafe.Offsetof(header{}.handed):]))
}

// op reads back what the child wrote about call i.
func (r *region) op(i int) (result int64, tick uint64) {
	b := r.data[headerSize+i*opSize:]
	return int64(binary.NativeEndian.Uint64(b[unsafe.Offsetof(op{}.result):])),
		binary.NativeEndian.Uint64(b[unsafe.Offsetof(op{}.tick):])
}
