package step

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Call is one system call of a plan. A plan prints its calls and package child
// encodes the very same values, so what is printed is what is executed.
type Call struct {
	Name string  // as in section 2 of the manual
	Nr   uintptr // its number on this architecture
	Args []Arg   // at most six

	Out *Result // takes the return value, nil: it is dropped

	// May lists errors that do not end the plan. After one of them the next
	// Skip calls are passed over.
	May  []unix.Errno
	Skip int

	Then int // calls passed over when this one succeeds

	NonZero bool // a return value of 0 is EPIPE: the writer of a pipe is gone
	Reap    bool // a fork: the process in which it returns non-zero becomes the reaper
	Hand    bool // likewise: it ends, and the other goes on with the plan in its place
}

// Result is the return value of an earlier call, mostly a file descriptor.
type Result struct {
	Name string
	None int64 // its value until then, if that is ever used
}

// Arg is one argument: a number, or a pointer to memory which the plan owns.
// How it prints is worked out only when somebody asks: a start does not.
type Arg struct {
	Value uint64
	From  *Result // the value is the result of an earlier call
	Place Place   // Value is counted from a place in the plan's memory
	To    *Memory // the value points at this

	str   string           // To a string, or the text of a constant
	isStr bool             // the value points at str and a NUL
	show  func(Arg) string // prints what has no constant text
}

// Memory is what an argument points at: one of Words, Vector and Bytes.
type Memory struct {
	Words  []uint64 // in native order; may be shared by calls
	Bytes  []byte
	Fixups map[int]Arg // within Bytes: 8 bytes that another argument fills
	Hole   *Hole       // within Bytes: where the result of an earlier call goes
	Vector []string    // a NULL-terminated array of strings
}

// Text is how the argument prints.
func (a Arg) Text() string {
	switch {
	case a.show != nil:
		return a.show(a)
	case a.isStr:
		return quote(a.str)
	case a.From != nil:
		return "$" + a.From.Name
	}
	return a.str
}

// String is the string that the argument points at, without its NUL.
func (a Arg) String() (s string, ok bool) { return a.str, a.isStr }

// Hole is a result of 4 bytes within the Bytes of an argument. The call that
// makes it stores it there.
type Hole struct {
	Offset int
	Of     *Result
}

// Place is an address that is known only when the plan lies in memory.
type Place int

// The places that a plan may speak of.
const (
	Nowhere       Place = iota
	RegionStart         // first byte of the plan's memory, interpreter included
	RegionEnd           // first byte after it
	SignalHandler       // code that ends the process with 128 and the signal's number
	AboveRegion         // not an address: the length from RegionEnd to the end of user space
)

// At is an address at a place.
func At(p Place, offset int) Arg {
	return Arg{Place: p, Value: uint64(offset), show: place}
}

func place(a Arg) string {
	text := [...]string{"", "plan", "plan_end", "end", "rest"}[a.Place]
	if a.Value != 0 {
		text += "+" + strconv.FormatUint(a.Value, 10)
	}
	return text
}

func newCall(name string, nr uintptr, args ...Arg) Call {
	return Call{Name: name, Nr: nr, Args: args}
}

// to names the result of a call.
func (c Call) to(r *Result) Call { c.Out = r; return c }

// may adds errors that do not end the plan; skip calls after it are left out then.
func (c Call) may(skip int, errs ...unix.Errno) Call {
	c.May, c.Skip = errs, skip
	return c
}

// Int is a plain number.
func Int(v int) Arg { return Arg{Value: uint64(v), show: decimal} }

func decimal(a Arg) string { return strconv.FormatInt(int64(a.Value), 10) }

// Flags is a number that prints as the names of its bits.
func Flags(v uint64, names string) Arg { return Arg{Value: v, str: names} }

// Octal is a file mode.
func Octal(v uint32) Arg { return Arg{Value: uint64(v), show: octal} }

func octal(a Arg) string { return "0" + strconv.FormatUint(a.Value, 8) }

// Later is a number that is known when the plan is started. Till then, and in
// print, it is what.
func Later(what string) *Arg { return &Arg{str: what} }

// Null is a NULL pointer.
var Null = Arg{str: "NULL"}

// Cwd is AT_FDCWD.
var Cwd = Arg{Value: ^uint64(99), str: "AT_FDCWD"}

// Str is a NUL-terminated string.
func Str(s string) Arg { return Arg{str: s, isStr: true} }

// From uses the result of an earlier call.
func From(r *Result) Arg { return Arg{From: r} }

// Strings is an argument vector.
func Strings(v []string) Arg {
	if v == nil {
		v = []string{} // an array of the NULL alone
	}
	return Arg{To: &Memory{Vector: v}, show: vector}
}

func vector(a Arg) string {
	q := make([]string, len(a.To.Vector))
	for i, s := range a.To.Vector {
		q[i] = quote(s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// Struct is a pointer to 64-bit words in native order, the shape of most
// arguments of newer system calls.
func Struct(show func(words []uint64) string, words ...uint64) Arg {
	return Arg{To: &Memory{Words: words}, show: func(a Arg) string { return show(a.To.Words) }}
}

// Blob is a pointer to bytes of any shape.
func Blob(text string, b []byte) Arg { return Arg{To: &Memory{Bytes: b}, str: text} }

// String prints the call as strace would: name(args) = $result.
func (c Call) String() string {
	var b strings.Builder
	b.WriteString(c.Name)
	b.WriteByte('(')
	for i, a := range c.Args {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.Text())
	}
	b.WriteByte(')')
	if c.Out != nil {
		b.WriteString(" = $" + c.Out.Name)
	}
	for i, e := range c.May {
		if i == 0 {
			b.WriteString("   # may fail with ")
		} else {
			b.WriteString(" or ")
		}
		b.WriteString(unix.ErrnoName(e))
	}
	if c.Then > 0 {
		fmt.Fprintf(&b, "   # if it succeeds the next %d are left out", c.Then)
	}
	if c.Skip > 0 {
		fmt.Fprintf(&b, ", then the next %d are left out", c.Skip)
	}
	return b.String()
}

const maxPrinted = 240 // characters of a string that a plan prints

func quote(s string) string {
	if len(s) > maxPrinted {
		return strconv.Quote(s[:maxPrinted]) + "..."
	}
	return strconv.Quote(s)
}
