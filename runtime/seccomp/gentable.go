//go:build ignore

// Gentable writes syscalls.txt, the number of every system call on every
// architecture, from the kernel's own tables (Documentation/process/adding-syscalls.rst).
//
//	apt-get download linux-source-6.12 && dpkg -x linux-source-*.deb .
//	tar -xf usr/src/linux-source-6.12.tar.xz
//	go run gentable.go -linux linux-source-6.12
//
// The tree must be 6.11 or newer (scripts/syscall.tbl) and still have 31-bit
// s390. System calls newer than the tree come from golang.org/x/sys, which
// follows the newest kernel: since Linux 5.1 a new one has the same number
// everywhere.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A column is one architecture: the table of the kernel and which of its ABIs
// count. Lines of generic tables name further ABIs (Makefile.syscalls).
type column struct {
	name, table string
	abis        []string
}

// The order is that of the constants col… in arch.go.
var columns = []column{
	{"386", "arch/x86/entry/syscalls/syscall_32.tbl", []string{"i386"}},
	{"x64", "arch/x86/entry/syscalls/syscall_64.tbl", []string{"common", "64"}},
	{"x32", "arch/x86/entry/syscalls/syscall_64.tbl", []string{"common", "x32"}},
	{"arm", "arch/arm/tools/syscall.tbl", []string{"common"}},
	{"a64", "arch/arm64/kernel/Makefile.syscalls", nil},
	{"loo", "arch/loongarch/kernel/Makefile.syscalls", nil},
	{"rv6", "arch/riscv/kernel/Makefile.syscalls", nil},
	{"68k", "arch/m68k/kernel/syscalls/syscall.tbl", []string{"common"}},
	{"o32", "arch/mips/kernel/syscalls/syscall_o32.tbl", []string{"o32"}},
	{"n64", "arch/mips/kernel/syscalls/syscall_n64.tbl", []string{"common", "n64"}},
	{"n32", "arch/mips/kernel/syscalls/syscall_n32.tbl", []string{"n32"}},
	{"pa3", "arch/parisc/kernel/syscalls/syscall.tbl", []string{"common", "32"}},
	{"pa6", "arch/parisc/kernel/syscalls/syscall.tbl", []string{"common", "64"}},
	{"pp3", "arch/powerpc/kernel/syscalls/syscall.tbl", []string{"common", "nospu", "32"}},
	{"pp6", "arch/powerpc/kernel/syscalls/syscall.tbl", []string{"common", "nospu", "64"}},
	{"s31", "arch/s390/kernel/syscalls/syscall.tbl", []string{"common", "32"}},
	{"s64", "arch/s390/kernel/syscalls/syscall.tbl", []string{"common", "64"}},
	{"sh ", "arch/sh/kernel/syscalls/syscall.tbl", []string{"common"}},
}

// Calls that some architectures make through socketcall(2) and ipc(2), with
// their number there (linux/net.h, linux/ipc.h).
var mux = map[string]string{
	"socket": "s01", "bind": "s02", "connect": "s03", "listen": "s04", "accept": "s05",
	"getsockname": "s06", "getpeername": "s07", "socketpair": "s08", "send": "s09",
	"recv": "s10", "sendto": "s11", "recvfrom": "s12", "shutdown": "s13", "setsockopt": "s14",
	"getsockopt": "s15", "sendmsg": "s16", "recvmsg": "s17", "accept4": "s18", "recvmmsg": "s19", "sendmmsg": "s20",
	"semop": "i01", "semget": "i02", "semctl": "i03", "semtimedop": "i04",
	"msgsnd": "i11", "msgrcv": "i12", "msgget": "i13", "msgctl": "i14",
	"shmat": "i21", "shmdt": "i22", "shmget": "i23", "shmctl": "i24",
}

func main() {
	log.SetFlags(0)
	linux := flag.String("linux", "", "kernel source tree")
	flag.Parse()
	if err := generate(*linux); err != nil {
		log.Fatal("gentable: ", err)
	}
}

func generate(linux string) error {
	rows := map[string][]string{} // name -> cells
	last := 0
	for i, c := range columns {
		numbers, err := c.read(linux)
		if err != nil {
			return err
		}
		for name, n := range numbers {
			set(rows, name, i, fmt.Sprintf("%3d", n))
			last = max(last, n%500) // x32 has numbers of its own from 512
		}
	}
	private, err := armPrivate(linux)
	if err != nil {
		return err
	}
	for name, n := range private {
		set(rows, name, 3, fmt.Sprintf("f%02d", n))
	}
	if err := addNewer(rows, last); err != nil {
		return err
	}
	for name, cell := range mux {
		set(rows, name, len(columns), cell)
	}
	return write("syscalls.txt", rows)
}

func set(rows map[string][]string, name string, col int, cell string) {
	if rows[name] == nil {
		rows[name] = slices.Repeat([]string{"   "}, len(columns)+1)
	}
	rows[name][col] = cell
}

// read gives the numbers of a column. A Makefile.syscalls stands for
// scripts/syscall.tbl with the ABIs that it adds for 64 bits.
func (c column) read(linux string) (map[string]int, error) {
	table, abis := c.table, c.abis
	if filepath.Base(table) == "Makefile.syscalls" {
		text, err := os.ReadFile(filepath.Join(linux, table))
		if err != nil {
			return nil, err
		}
		abis = []string{"common", "64"}
		if m := regexp.MustCompile(`(?m)^syscall_abis_64 *\+=(.*)$`).FindSubmatch(text); m != nil {
			abis = append(abis, strings.Fields(string(m[1]))...)
		}
		table = "scripts/syscall.tbl"
	}
	f, err := os.Open(filepath.Join(linux, table))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	numbers := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		// <number> <abi> <name> [entry point…]
		field := strings.Fields(s.Text())
		if len(field) < 3 || strings.HasPrefix(field[0], "#") || !slices.Contains(abis, field[1]) {
			continue
		}
		n, err := strconv.Atoi(field[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", table, s.Text(), err)
		}
		if strings.HasPrefix(field[2], "reserved") || strings.HasPrefix(field[2], "unused") {
			continue // names of holes (mips, sparc)
		}
		numbers[field[2]] = n
	}
	if len(numbers) < 250 {
		return nil, fmt.Errorf("%s: %d calls for %v only", table, len(numbers), abis)
	}
	return numbers, nil
}

// armPrivate reads the calls above 0xf0000 that ARM defines besides its table.
func armPrivate(linux string) (map[string]int, error) {
	name := filepath.Join(linux, "arch/arm/include/uapi/asm/unistd.h")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	numbers := map[string]int{}
	for _, m := range regexp.MustCompile(`__ARM_NR_(\w+)\s+\(__ARM_NR_BASE\+(\d+)\)`).FindAllSubmatch(text, -1) {
		numbers[string(m[1])], _ = strconv.Atoi(string(m[2]))
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s: no private calls", name)
	}
	return numbers, nil
}

// goarch names the architectures that golang.org/x/sys has tables of.
var goarch = map[string]string{"386": "386", "x64": "amd64", "arm": "arm", "a64": "arm64", "loo": "loong64",
	"rv6": "riscv64", "o32": "mips", "n64": "mips64", "pp3": "ppc", "pp6": "ppc64", "s64": "s390x"}

// addNewer adds what golang.org/x/sys knows and the tree does not. A call that
// is newer than the tree must have one number everywhere; so has it on the
// architectures that x/sys leaves out.
func addNewer(rows map[string][]string, last int) error {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		return fmt.Errorf("find golang.org/x/sys: %w", err)
	}
	everywhere := map[string]int{}
	for i, c := range columns {
		if goarch[c.name] == "" {
			continue
		}
		numbers, err := goNumbers(strings.TrimSpace(string(dir)), goarch[c.name])
		if err != nil {
			return err
		}
		for name, n := range numbers {
			if rows[name] == nil || strings.TrimSpace(rows[name][i]) == "" {
				set(rows, name, i, fmt.Sprintf("%3d", n))
				if c.name == "x64" { // x32 shares what is new
					set(rows, name, i+1, fmt.Sprintf("%3d", n))
				}
			}
			if n <= last {
				continue
			}
			if m, ok := everywhere[name]; ok && m != n {
				return fmt.Errorf("%s is %d and %d", name, m, n)
			}
			everywhere[name] = n
		}
	}
	for name, n := range everywhere {
		for i := range columns {
			set(rows, name, i, fmt.Sprintf("%3d", n))
		}
	}
	return nil
}

// goNumbers reads the table of one architecture from golang.org/x/sys.
func goNumbers(dir, arch string) (map[string]int, error) {
	base := map[string]int{"mips": 4000, "mips64": 5000}[arch]
	text, err := os.ReadFile(filepath.Join(dir, "unix/zsysnum_linux_"+arch+".go"))
	if err != nil {
		return nil, err
	}
	numbers := map[string]int{}
	notCalls := regexp.MustCompile(`^(reserved|unused)\d+$|^arch_specific_syscall$|^syscall_mask$`)
	for _, m := range regexp.MustCompile(`\sSYS_(\w+)\s+= (\d+)\n`).FindAllSubmatch(text, -1) {
		n, _ := strconv.Atoi(string(m[2]))
		if name := strings.ToLower(string(m[1])); !notCalls.MatchString(name) {
			numbers[name] = n - base
		}
	}
	return numbers, nil
}

// write lays the table out in lines of equal length, sorted by name: the
// program finds a line by bisection. The heading sorts first.
func write(file string, rows map[string][]string) error {
	const width = 28
	var b strings.Builder
	line := func(name string, cells []string) { fmt.Fprintf(&b, "%-*s %s\n", width, name, strings.Join(cells, " ")) }
	var heading []string
	for _, c := range columns {
		heading = append(heading, c.name)
	}
	line("#", append(heading, "mux"))
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if len(name) > width {
			return fmt.Errorf("%s is longer than %d bytes", name, width)
		}
		line(name, rows[name])
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
