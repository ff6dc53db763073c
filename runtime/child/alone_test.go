package child

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// alone is one step executed by itself in a fresh process: with what it cannot do
// without before it, and nothing else. What it did is asked of the kernel. Exactly
// one of sh, look and call says how.
type alone struct {
	of    step.Step // its type
	what  string    // the variant
	clone uint64    // namespaces that the process begins in
	needs func() string
	given func(b *bench)             // what the parent has ready: files, descriptors
	steps func(b *bench) []step.Step // the step is the last of them

	sh, want string                     // a shell that the process becomes, and what it writes; $1 is b.dir
	look     func(b *bench)             // while the process waits behind the step
	call     string                     // it fails, in this call,
	errno    unix.Errno                 // with this error
	after    func(b *bench, dir string) // when the process is gone
}

// bench is what a case works on.
type bench struct {
	*testing.T
	dir  string
	root *step.Result // dir, after mounting or opening
	fd   int          // what given opened
	p    *Process
	kept step.Result
}

const allPrivate = unix.MS_REC | unix.MS_PRIVATE

// mounting is what a step needs that mounts something below root: a mount
// namespace from which nothing reaches the host, and dir as a mount in it.
func (b *bench) mounting(steps ...step.Step) []step.Step {
	return append([]step.Step{step.Propagation{Flags: allPrivate}, step.BindRoot{Path: b.dir, Root: b.root}}, steps...)
}

// opening is what a step needs that takes the root by descriptor and mounts nothing.
func (b *bench) opening(steps ...step.Step) []step.Step {
	return append([]step.Step{raw{{Name: "openat", Nr: unix.SYS_OPENAT,
		Args: []step.Arg{step.Cwd, step.Str(b.dir), step.Flags(unix.O_PATH|unix.O_CLOEXEC, "O_PATH")}, Out: b.root}}}, steps...)
}

// raw are calls of a test's own.
type raw []step.Call

func (raw) String() string       { return "calls of a test" }
func (r raw) Calls() []step.Call { return r }

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces and mounts are made by root: run as root")
	}
	b := &bench{T: t, dir: t.TempDir(), fd: -1}
	for _, d := range []string{b.dir, filepath.Dir(b.dir)} { // other users of the cases come by
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.root = &step.Result{Name: "root"}
	return b
}

// open gives a descriptor that the process has, too; a program would keep it
// without O_CLOEXEC. It is above all that steps tread on.
func (b *bench) open(path string, flags int) int {
	b.Helper()
	low, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(path, ": ", err)
	}
	defer unix.Close(low)
	dup := unix.F_DUPFD
	if flags&unix.O_CLOEXEC != 0 {
		dup = unix.F_DUPFD_CLOEXEC
	}
	fd, err := unix.FcntlInt(uintptr(low), dup, 32)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return fd
}

// write makes files below dir, "" for a directory.
func (b *bench) write(files ...string) {
	b.Helper()
	for i := 0; i < len(files); i += 2 {
		path, data := b.dir+"/"+files[i], files[i+1]
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if data == "" {
			err = os.MkdirAll(path, 0o755)
		} else if err == nil {
			err = os.WriteFile(path, []byte(data), 0o644)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// files is write for given.
func files(files ...string) func(*bench) { return func(b *bench) { b.write(files...) } }

// proc reads a file of the process's directory in /proc.
func (b *bench) proc(name string) string {
	b.Helper()
	path := fmt.Sprintf("/proc/%d/%s", b.p.Pid, name)
	if to, err := os.Readlink(path); err == nil {
		return to
	}
	s, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return string(s)
}

// status is a line of /proc/PID/status.
func (b *bench) status(name string) string {
	b.Helper()
	_, rest, ok := strings.Cut("\n"+b.proc("status"), "\n"+name+":\t")
	if !ok {
		b.Fatalf("/proc/PID/status has no %s", name)
	}
	return strings.ReplaceAll(strings.TrimSpace(rest[:strings.IndexByte(rest, '\n')]), "\t", " ")
}

// result is a number that a call of the waiting process returned.
func (b *bench) result(r *step.Result) int {
	b.Helper()
	n, ok := b.p.Result(r)
	if !ok {
		b.Fatal("no call returned ", r.Name)
	}
	return int(n)
}

// eq compares.
func (b *bench) eq(got, want any) {
	b.Helper()
	if !reflect.DeepEqual(got, want) {
		b.Errorf("got %v, want %v", got, want)
	}
}

func busyboxPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox: apt-get install busybox-static")
	}
	return path
}

func (c alone) name() string {
	return strings.TrimSpace(strings.TrimPrefix(fmt.Sprintf("%T", c.of), "step.") + " " + c.what)
}

func testAlone(t *testing.T, cases []alone) {
	for _, c := range cases {
		t.Run(c.name(), func(t *testing.T) { c.run(newBench(t)) })
	}
}

func (c alone) run(b *bench) {
	if c.needs != nil {
		if why := c.needs(); why != "" {
			b.Skip(why)
		}
	}
	if c.given != nil {
		c.given(b)
	}
	plan := &step.Plan{CloneFlags: c.clone}
	plan.Add(c.steps(b)...)
	last := plan.Steps[len(plan.Steps)-1]
	if reflect.TypeOf(last) != reflect.TypeOf(c.of) {
		b.Fatalf("the case is of %T, its last step is %T", c.of, last)
	}
	switch {
	case c.call != "":
		c.fail(b, plan, last)
	case c.look != nil:
		c.wait(b, plan)
	default:
		c.shell(b, plan)
	}
	if c.after != nil {
		c.after(b, b.dir)
	}
}

// fail: the step ends the plan, and is named.
func (c alone) fail(b *bench, plan *step.Plan, last step.Step) {
	plan.Add(step.Exec{Args: []string{busyboxPath(b.T), "true"}})
	ws, err := run(b.T, plan)
	var e *Error
	if !errors.As(err, &e) || reflect.TypeOf(e.Step) != reflect.TypeOf(last) || e.Call.Name != c.call || e.Errno != c.errno {
		b.Errorf("got %v, want %s of %T to fail with %v", err, c.call, last, c.errno)
	}
	if err != nil && (!strings.Contains(err.Error(), last.String()) || !strings.Contains(err.Error(), c.errno.Error())) {
		b.Errorf("%v names not both step and error", err)
	}
	if ws.Exited() && ws.ExitStatus() == 0 {
		b.Error("the process ended as if nothing had failed")
	}
}

// wait: the process is looked at from outside.
func (c alone) wait(b *bench, plan *step.Plan) {
	plan.Add(step.Tell{FD: step.From(ErrFD), That: "done"}, step.Pause{})
	b.start(plan)
	if reached, err := b.p.Reached(); err != nil || !reached {
		b.Fatal("the step failed: ", errors.Join(err, b.p.Started()))
	}
	c.look(b)
}

// start clones, and leaves nothing behind.
func (b *bench) start(plan *step.Plan) {
	b.Helper()
	p, err := Start(plan, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.p = p
	b.Cleanup(func() {
		unix.PidfdSendSignal(int(p.Pidfd.Fd()), unix.SIGKILL, nil, 0)
		unix.Wait4(p.Pid, nil, 0, nil) // ECHILD if the case has waited
		closeProcess(p)
	})
}

// pipe gives the read end and the number of the write end, which the process keeps.
func (b *bench) pipe() (*os.File, int) {
	b.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], 0); err != nil {
		b.Fatal(err)
	}
	unix.CloseOnExec(p[0])
	r := os.NewFile(uintptr(p[0]), "pipe")
	b.Cleanup(func() { r.Close() })
	return r, p[1]
}

// shell: the process becomes a shell that looks around.
func (c alone) shell(b *bench, plan *step.Plan) {
	r, w := b.pipe()
	b.become(plan, w, c.sh)
	unix.Close(w)
	if err := b.p.Started(); err != nil {
		b.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		b.Fatal(err)
	}
	b.eq(strings.TrimSpace(string(out)), strings.ReplaceAll(c.want, "$1", b.dir))
}

func (b *bench) become(plan *step.Plan, out int, sh string) {
	b.Helper()
	sh = fmt.Sprintf("exec >&%d 2>&1; %s", out, sh)
	plan.Add(step.Exec{File: busyboxPath(b.T), Args: []string{"busybox", "sh", "-c", sh, "sh", b.dir, fmt.Sprint(b.fd)},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}})
	b.start(plan)
}

// elsewhere are tests of their own, for steps whose end is none of the three.
var elsewhere = map[string]string{
	"Exec": "TestExecRuns", "Handover": "TestThenAndHandover", "LeaveMemory": "TestBinaryIsHidden", "HideBinary": "TestBinaryIsHidden",
	"Await": "TestAwait", "AwaitStart": "TestAwaitStart", "Tell": "TestTell", "Pause": "TestPause", "DieBySignal": "TestDieBySignal",
	"Reaper": "TestReaper", "Terminal": "TestTerminal",
}

// A new type of step has to come with a case that executes it.
func TestEveryStepIsExecutedAlone(t *testing.T) {
	done := make(map[string]bool)
	for _, cases := range [][]alone{processCases, rightsCases, enterCases, mountCases, protectCases, fileCases} {
		for _, c := range cases {
			done[strings.TrimPrefix(fmt.Sprintf("%T", c.of), "step.")] = true
		}
	}
	tests := mentions(t)
	for name, test := range elsewhere {
		if done[name] {
			t.Errorf("%s is executed twice: by %s, too", name, test)
		}
		done[name] = tests[test][name]
		if !done[name] {
			t.Errorf("%s is not in %s", name, test)
		}
	}
	types := stepTypes(t)
	if len(types) < 50 {
		t.Errorf("only %d types found", len(types))
	}
	for _, name := range types {
		if !done[name] {
			t.Errorf("step.%s is executed by no case", name)
		}
	}
}

func parse(t *testing.T, dir string, tests bool) (funcs []*ast.FuncDecl) {
	t.Helper()
	names, err := fs.Glob(os.DirFS(dir), "*.go")
	if err != nil || len(names) == 0 {
		t.Fatal(dir, ": no source, ", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				funcs = append(funcs, fn)
			}
		}
	}
	return funcs
}

// stepTypes are all types with a method Calls.
func stepTypes(t *testing.T) (names []string) {
	for _, fn := range parse(t, "../step", false) {
		if fn.Recv == nil || fn.Name.Name != "Calls" {
			continue
		}
		recv := fn.Recv.List[0].Type
		if star, ok := recv.(*ast.StarExpr); ok {
			recv = star.X
		}
		if id := recv.(*ast.Ident); id.Name != "Plan" { // all calls of a plan
			names = append(names, id.Name)
		}
	}
	return names
}

// mentions tells which steps are made in which test of this package, or in what it calls.
func mentions(t *testing.T) map[string]map[string]bool {
	out, calls := make(map[string]map[string]bool), make(map[string][]string)
	for _, fn := range parse(t, ".", true) {
		made := make(map[string]bool)
		ast.Inspect(fn, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if sel, ok := n.Type.(*ast.SelectorExpr); ok {
					made[sel.Sel.Name] = true
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok {
					calls[fn.Name.Name] = append(calls[fn.Name.Name], id.Name)
				}
			}
			return true
		})
		out[fn.Name.Name] = made
	}
	for name, called := range calls {
		for _, c := range called {
			maps.Copy(out[name], out[c])
		}
	}
	return out
}
