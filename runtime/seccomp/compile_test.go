package seccomp

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden holds the programs of small profiles, as text.
func TestGolden(t *testing.T) {
	for file, goarch := range map[string]string{"small": "amd64", "carried": "s390x"} {
		profile, err := os.ReadFile("testdata/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var p specs.LinuxSeccomp
		if err := json.Unmarshal(profile, &p); err != nil {
			t.Fatal(err)
		}
		f, err := Compile(&p, goarch)
		if err != nil {
			t.Fatal(err)
		}
		valid(t, f.Program)
		golden := "testdata/" + file + ".bpf"
		if *update {
			if err := os.WriteFile(golden, []byte(text(f.Program)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(f.Program); got != string(want) {
			t.Errorf("%s (go test ./runtime/seccomp -update writes it anew):\n%s", golden, got)
		}
	}
}

func TestNoFilter(t *testing.T) {
	allow := specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow}
	for _, p := range []*specs.LinuxSeccomp{
		nil,
		{},
		{DefaultAction: specs.ActAllow},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{allow}},
		{DefaultAction: specs.ActAllow, ListenerPath: "/run/agent.sock", ListenerMetadata: "m"},
	} {
		if f, err := Compile(p, "amd64"); f != nil || err != nil {
			t.Errorf("%v: %v, %v", p, f, err)
		}
	}
	f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActKill}, "amd64")
	if err != nil || len(f.Program) != 1 || f.Program[0].K != unix.SECCOMP_RET_KILL_THREAD {
		t.Errorf("kill whatever comes: %v, %v", f, err)
	}
}

func TestErrors(t *testing.T) {
	one := uint(1)
	big := uint(1 << 16)
	rules := func(r ...specs.LinuxSyscall) []specs.LinuxSyscall { return r }
	read := []string{"read"}
	for _, c := range []struct {
		p     specs.LinuxSeccomp
		cause string
	}{
		{specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_FOO"}, `action "SCMP_ACT_FOO"`},
		{specs.LinuxSeccomp{Syscalls: rules(specs.LinuxSyscall{Names: read, Action: specs.ActAllow})}, `default: action ""`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, DefaultErrnoRet: &one}, "SCMP_ACT_ALLOW takes no errnoRet"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &big}, "does not fit"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActNotify, ListenerPath: "/x"}, "SCMP_ACT_NOTIFY cannot be used as default action"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_VAX"}}, `"SCMP_ARCH_VAX"`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchS390X}}, "byte order"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_FOO"}}, `flag "SECCOMP_FILTER_FLAG_FOO"`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}}, "needs a rule with SCMP_ACT_NOTIFY"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules(specs.LinuxSyscall{Names: read, Action: "x"})}, `rule 0: action "x"`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules(specs.LinuxSyscall{Names: read, Action: specs.ActKill, ErrnoRet: &one})}, "rule 0: action SCMP_ACT_KILL takes no errnoRet"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules(specs.LinuxSyscall{Names: []string{""}, Action: specs.ActKill})}, "without a name"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules(specs.LinuxSyscall{Names: read, Action: specs.ActKill, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}})}, "argument index 6"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules(specs.LinuxSyscall{Names: read, Action: specs.ActKill, Args: []specs.LinuxSeccompArg{{Op: "=="}}})}, `operator "=="`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: rules(specs.LinuxSyscall{Names: []string{"write"}, Action: specs.ActNotify})}, "SCMP_ACT_NOTIFY cannot be used for the write syscall"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules(specs.LinuxSyscall{Names: read, Action: specs.ActNotify})}, "listenerPath is not set"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules(
			specs.LinuxSyscall{Names: read, Action: specs.ActKill, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Value: 1}}},
			specs.LinuxSyscall{Names: read, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Value: 1}}})}, "system call 0 of SCMP_ARCH_X86_64: rules with the same conditions"},
		{tooLong(), "the kernel takes 4096"},
	} {
		if f, err := Compile(&c.p, "amd64"); err == nil || !strings.Contains(err.Error(), c.cause) || !strings.HasPrefix(err.Error(), "seccomp: ") {
			t.Errorf("want %q: %v, %v", c.cause, f, err)
		}
	}
	if _, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActKill}, "wasm"); err == nil {
		t.Error("a filter for wasm")
	}
}

// tooLong needs more instructions than the kernel takes.
func tooLong() specs.LinuxSeccomp {
	p := specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for v := range uint64(2100) {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno,
			Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpMaskedEqual, Value: v + 1, ValueTwo: v}}})
	}
	return p
}

// TestLongJumps: a profile with many verdicts, far apart, and long tests.
func TestLongJumps(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32}}
	tested := []string{"read", "openat", "statx", "clone"}
	for i, name := range callNames() {
		errno := uint(i % 7)
		if !slices.Contains(tested, name) {
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &errno})
		}
	}
	for i, name := range tested {
		for v := range uint64(50) {
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActKill,
				Args: []specs.LinuxSeccompArg{{Index: uint(i), Op: specs.OpEqualTo, Value: v << 31}}})
		}
	}
	if d := modelDiffers(p, "amd64"); d != "" {
		t.Error(d)
	}
	f, err := Compile(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	valid(t, f.Program)
	if !slices.ContainsFunc(f.Program, func(i unix.SockFilter) bool { return i.Code == unix.BPF_JMP|unix.BPF_JA }) {
		t.Errorf("%d instructions, and no long jump among them", len(f.Program))
	}
}

func TestFlags(t *testing.T) {
	rules := []specs.LinuxSyscall{{Names: []string{"fsync"}, Action: specs.ActErrno}}
	ask := []specs.LinuxSyscall{{Names: []string{"fsync"}, Action: specs.ActNotify}}
	for _, c := range []struct {
		flags []specs.LinuxSeccompFlag
		rules []specs.LinuxSyscall
		want  uint
	}{ // as in runc's tests/integration/seccomp.bats and seccomp-notify.bats
		{nil, rules, 4},
		{[]specs.LinuxSeccompFlag{}, rules, 0},
		{[]specs.LinuxSeccompFlag{flagTSync}, rules, 0},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, flagTSync, specs.LinuxSeccompFlagSpecAllow}, rules, 6},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}, ask, 40},
	} {
		f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: c.flags, Syscalls: c.rules, ListenerPath: "/x", ListenerMetadata: "m"}, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		if f.Flags != c.want || f.Notify != (f.ListenerPath == "/x") || f.Notify != (f.ListenerMetadata == "m") || f.Notify != (c.want&8 != 0) {
			t.Errorf("%v: %+v", c.flags, f)
		}
	}
}

func TestKnown(t *testing.T) {
	for _, list := range [][]string{KnownActions(), KnownOperators(), KnownArchs()} {
		if !slices.IsSorted(list) {
			t.Errorf("%v is not sorted", list)
		}
	}
	for _, a := range KnownActions() {
		if _, err := readAction(specs.LinuxSeccompAction(a), nil); err != nil {
			t.Error(err)
		}
	}
	for _, o := range KnownOperators() {
		if _, err := readArg(&specs.LinuxSeccompArg{Op: specs.LinuxSeccompOperator(o)}); err != nil {
			t.Error(err)
		}
	}
	for _, f := range KnownFlags() {
		if _, err := readFlags([]specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(f)}); err != nil {
			t.Error(err)
		}
	}
	if n := len(KnownArchs()); n != 23 {
		t.Errorf("%d architectures", n)
	}
}

func TestBytes(t *testing.T) {
	f := &Filter{Program: []unix.SockFilter{{Code: 0x0102, Jt: 3, Jf: 4, K: 0x05060708}}}
	b := f.Bytes()
	if len(b) != 8 || binary.NativeEndian.Uint16(b) != 0x0102 || b[2] != 3 || b[3] != 4 || binary.NativeEndian.Uint32(b[4:]) != 0x05060708 {
		t.Errorf("% x", b)
	}
}

// TestTable: the lines of syscalls.txt are as findSyscall expects them.
func TestTable(t *testing.T) {
	names := callNames()
	if !slices.IsSorted(names) || len(names) < 500 {
		t.Errorf("%d names", len(names))
	}
	for i, name := range names {
		for _, hint := range []int{1, i + 1, len(names)} {
			if got := findSyscall(name, hint); got != i+1 {
				t.Errorf("%s is line %d, found %d", name, i+1, got)
			}
		}
		for _, no := range []string{name + " ", name + "x_", name[:len(name)-1] + "\x7f", " " + name} {
			if got := findSyscall(no, 1); got != -1 {
				t.Errorf("%q is line %d", no, got)
			}
		}
	}
	for _, no := range []string{"#", " ", "~", strings.Repeat("a", 100)} {
		if got := findSyscall(no, 1); got != -1 {
			t.Errorf("%q is line %d", no, got)
		}
	}
	numbers := map[uint32]string{}
	for i, name := range names {
		if s := archs[0].slot(i + 1); s >= 0 {
			if other, ok := numbers[archs[0].number(s)]; ok {
				t.Errorf("%s and %s have the same number", name, other)
			}
			numbers[archs[0].number(s)] = name
		}
	}
	if numbers[unix.SYS_OPENAT2] != "openat2" && archs[0].goarch == "amd64" && unix.SYS_READ == 0 {
		t.Error("openat2 has another number")
	}
}
