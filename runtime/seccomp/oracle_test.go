package seccomp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An oracle is libseccomp, in a process that compiles profiles with it.
type oracle struct {
	bin     string
	stop    func()
	in      *bufio.Writer
	out     *bufio.Reader
	numbers map[string]int32
}

func newOracle(t *testing.T) *oracle {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("the comparison with libseccomp needs gcc and libseccomp-dev: ", err)
	}
	o := &oracle{bin: filepath.Join(t.TempDir(), "libseccomp"), numbers: map[string]int32{}}
	if out, err := exec.Command("gcc", "-O1", "-Wall", "-o", o.bin, "testdata/libseccomp.c", "-lseccomp").CombinedOutput(); err != nil {
		if strings.Contains(string(out), "seccomp.h: No such file") {
			t.Skip("the comparison with libseccomp needs libseccomp-dev: seccomp.h is not there")
		}
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	o.start(t)
	t.Cleanup(func() { o.stop() })
	return o
}

func (o *oracle) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(o.bin)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.in, o.out = bufio.NewWriterSize(in, 1<<16), bufio.NewReader(out)
	o.stop = func() {
		in.Close()
		cmd.Wait() // may have died in a profile: errHangs
	}
}

// errHangs is what libseccomp does with some profiles, in 2.5.4.
var errHangs = errors.New("libseccomp does not come to an end")

// answer reads a number from libseccomp.
func (o *oracle) answer(t *testing.T) (int32, error) {
	t.Helper()
	if err := o.in.Flush(); err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	if _, err := io.ReadFull(o.out, b[:]); err == io.EOF {
		o.stop()
		o.start(t)
		return 0, errHangs
	} else if err != nil {
		t.Fatal(err)
	}
	return int32(binary.NativeEndian.Uint32(b[:])), nil
}

// token is how libseccomp names an architecture: as the kernel does, but x32.
func (a *arch) token() uint32 {
	if a.column == colX32 {
		return 0x4000003e
	}
	return a.audit
}

// Numbers of libseccomp for a name that it does not know, and one that the
// architecture does not have: -1, and below.
const nrError = -1

func (o *oracle) number(t *testing.T, a *arch, name string) int32 {
	t.Helper()
	question := fmt.Sprintf("number %x %s\n", a.token(), name)
	n, ok := o.numbers[question]
	if !ok {
		io.WriteString(o.in, question)
		var err error
		if n, err = o.answer(t); err != nil {
			t.Fatal(err)
		}
		o.numbers[question] = n
	}
	return n
}

// compile gives libseccomp's program for a profile, or what it fails with.
// The profile is handed over as runc does.
func (o *oracle) compile(t *testing.T, p *specs.LinuxSeccomp, archs []*arch, optimize int) ([]unix.SockFilter, error) {
	t.Helper()
	def, err := readAction(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(o.in, "new %x %d\n", def, optimize)
	for _, a := range archs {
		fmt.Fprintf(o.in, "arch %x\n", a.token())
	}
	for _, call := range p.Syscalls {
		action, err := readAction(call.Action, call.ErrnoRet)
		if err != nil {
			t.Fatal(err)
		}
		if action == def {
			continue
		}
		for _, name := range call.Names {
			for _, args := range split(call.Args) {
				fmt.Fprintf(o.in, "rule %x %s", action, name)
				for _, a := range args {
					// enum scmp_compare
					op := map[specs.LinuxSeccompOperator]int{specs.OpNotEqual: 1, specs.OpLessThan: 2, specs.OpLessEqual: 3,
						specs.OpEqualTo: 4, specs.OpGreaterEqual: 5, specs.OpGreaterThan: 6, specs.OpMaskedEqual: 7}[a.Op]
					fmt.Fprintf(o.in, " %d %d %x %x", a.Index, op, a.Value, a.ValueTwo)
				}
				fmt.Fprintln(o.in)
			}
		}
	}
	fmt.Fprintln(o.in, "end")
	n, err := o.answer(t)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, unix.Errno(-n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(o.out, b); err != nil {
		t.Fatal(err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if archs[0].big {
		order = binary.BigEndian
	}
	prog := make([]unix.SockFilter, n/8)
	for i := range prog {
		prog[i] = unix.SockFilter{Code: order.Uint16(b[8*i:]), Jt: b[8*i+2], Jf: b[8*i+3], K: order.Uint32(b[8*i+4:])}
		// For another byte order than its own libseccomp swaps the action of
		// a return twice that it repeats for a long jump. No action has bits
		// in the lower half only.
		if k := prog[i].K; prog[i].Code == unix.BPF_RET && k != 0 && (k>>16 == 0 || k&0xff == 0 && k>>24 != 0 && k>>24 < 0x7f) {
			prog[i].K = bits.ReverseBytes32(k)
		}
	}
	return prog, nil
}

// split is runc's way with two conditions on one argument.
func split(args []specs.LinuxSeccompArg) [][]specs.LinuxSeccompArg {
	seen := map[uint]bool{}
	for _, a := range args {
		if seen[a.Index] {
			var out [][]specs.LinuxSeccompArg
			for _, a := range args {
				out = append(out, []specs.LinuxSeccompArg{a})
			}
			return out
		}
		seen[a.Index] = true
	}
	return [][]specs.LinuxSeccompArg{args}
}
