package child

import (
	"encoding/binary"
	"errors"
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
	data []byte // without it: the header, the calls, all else
	nops int
}

// ErrFD is the result under which a plan speaks of the error pipe: a step that
// moves the pipe stores its new number there.
var ErrFD = &step.Result{Name: "err"}

// layout writes a plan into a region. Offsets are of the region's data.
type layout struct {
	*region
	used   int
	slots  map[*step.Result]int // offset of a result's 8 bytes
	holes  map[*step.Result]int // offset of a second place for it
	words  map[*uint64]int      // offset of words by the first: plans share them
	arrays map[*string]int      // offset of a vector by its first string: execve is tried with the same many times
}

// newRegion encodes the calls. errfd is the descriptor of the error pipe.
func newRegion(calls []step.Call, errfd int) (*region, error) {
	size, err := sizeOf(calls)
	if err != nil {
		return nil, err
	}
	r, err := mapRegion(size)
	if err != nil {
		return nil, err
	}
	r.nops = len(calls)
	l := &layout{
		region: r, used: headerSize + opSize*len(calls),
		slots:  map[*step.Result]int{ErrFD: int(unsafe.Offsetof(header{}.errfd))},
		holes:  map[*step.Result]int{},
		words:  map[*uint64]int{},
		arrays: map[*string]int{},
	}
	err = l.plan(calls, errfd)
	if err == nil && l.used > size {
		err = fmt.Errorf("the plan takes %d bytes of %d: a call was counted wrong", l.used, size)
	}
	if err != nil {
		return nil, errors.Join(err, r.free())
	}
	return r, nil
}

func (l *layout) plan(calls []step.Call, errfd int) error {
	l.put(int(unsafe.Offsetof(header{}.errfd)), uint64(errfd))
	l.put(int(unsafe.Offsetof(header{}.all)), ^uint64(0))
	l.pointer(int(unsafe.Offsetof(header{}.ops)), headerSize)
	for i := range calls {
		if err := l.call(headerSize+i*opSize, &calls[i]); err != nil {
			return fmt.Errorf("%s: %w", calls[i].Name, err)
		}
	}
	// A hole is known only after the call that stores into it was laid out.
	for i := range calls {
		if off, ok := l.holes[calls[i].Out]; ok && calls[i].Out != nil {
			l.pointer(headerSize+i*opSize+int(unsafe.Offsetof(op{}.hole)), off)
		}
	}
	return nil
}

// sizeOf is the most that the data of a plan may take. The kernel would read a
// string up to its first NUL and no further: another path than the one that was
// looked at.
func sizeOf(calls []step.Call) (int, error) {
	n := headerSize + opSize*len(calls)
	for i := range calls {
		n += 8 // a result
		for _, a := range calls[i].Args {
			m, err := sizeOfArg(a)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", calls[i].Name, err)
			}
			n += m
		}
	}
	return n, nil
}

func sizeOfArg(a step.Arg) (n int, err error) {
	if s, ok := a.String(); ok {
		return sizeOfStr(s)
	}
	if a.To == nil {
		return 0, nil
	}
	n = 8*len(a.To.Words) + 8*(len(a.To.Vector)+1) + len(a.To.Bytes) + 8
	for _, s := range a.To.Vector {
		m, err := sizeOfStr(s)
		if err != nil {
			return 0, err
		}
		n += m
	}
	for _, f := range a.To.Fixups {
		m, err := sizeOfArg(f)
		if err != nil {
			return 0, err
		}
		n += m
	}
	return n, nil
}

func sizeOfStr(s string) (int, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return 0, fmt.Errorf("%q holds a NUL byte", s)
	}
	return len(s) + 8, nil // with its NUL and up to 7 for the alignment of what follows
}

func (l *layout) put(at int, v uint64) { binary.NativeEndian.PutUint64(l.data[at:], v) }

// pointer makes the 8 bytes at an offset the address of another offset.
func (l *layout) pointer(at, to int) { l.put(at, uint64(l.header())+uint64(to)) }

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

// alloc takes room of the region, which is zero.
func (l *layout) alloc(n int) int {
	off := l.used
	l.used += (n + 7) &^ 7
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
		l.put(at, l.at(a.Place)+a.Value)
	case a.To != nil:
		return l.memory(at, a.To)
	default:
		if s, ok := a.String(); ok {
			l.str(at, s)
			return nil
		}
		l.put(at, a.Value)
	}
	return nil
}

// at is the address of a place.
func (l *layout) at(p step.Place) uint64 {
	end := uint64(l.base) + uint64(len(l.mem))
	switch p {
	case step.RegionStart:
		return uint64(l.base)
	case step.RegionEnd:
		return end
	case step.SignalHandler:
		return uint64(l.base) + uint64(handlerEntry()-entry())
	case step.AboveRegion:
		return taskSize() - end
	}
	return 0
}

// str stores a string and its address.
func (l *layout) str(at int, s string) {
	off := l.alloc(len(s) + 1)
	copy(l.data[off:], s)
	l.pointer(at, off)
}

// memory stores what an argument points at, and its address.
func (l *layout) memory(at int, m *step.Memory) error {
	switch {
	case m.Words != nil:
		l.pointer(at, l.wordsOf(m.Words))
		return nil
	case m.Vector != nil:
		l.pointer(at, l.vector(m.Vector))
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

func (l *layout) wordsOf(w []uint64) int {
	if off, ok := l.words[&w[0]]; ok {
		return off
	}
	off := l.alloc(8 * len(w))
	for i, v := range w {
		l.put(off+8*i, v)
	}
	l.words[&w[0]] = off
	return off
}

func (l *layout) vector(v []string) int {
	var first *string
	if len(v) > 0 {
		first = &v[0]
		if off, ok := l.arrays[first]; ok {
			return off
		}
	}
	off := l.alloc(8 * (len(v) + 1))
	l.arrays[first] = off
	for i, s := range v {
		l.str(off+8*i, s)
	}
	return off
}

// mapRegion maps a region for so many bytes of data, all there at once: a fault
// for each page would cost more than the page.
func mapRegion(size int) (*region, error) {
	page := unix.Getpagesize()
	size = page + (size+page-1)/page*page
	// Reserve, then map over it: code private (nobody who traces the child can
	// change the parent's copy), data shared.
	addr, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map the plan: %w", err)
	}
	r := &region{base: uintptr(addr), mem: unsafe.Slice((*byte)(addr), size)}
	r.data = r.mem[page:]
	if _, err := unix.MmapPtr(-1, 0, unsafe.Add(addr, page), uintptr(size-page), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_POPULATE); err != nil {
		r.free()
		return nil, fmt.Errorf("map the plan: %w", err)
	}
	copy(r.mem, unsafe.Slice((*byte)(pointer(entry())), codeSize))
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
