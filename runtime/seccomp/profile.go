package seccomp

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A rule is one entry of the profile's syscalls.
type rule struct {
	lines  []uint16 // system calls, as lines of the table
	action uint32   // SECCOMP_RET_* with its data
	// When it holds: if all conditions of one of these lists do.
	when [][]cond
}

// A cond compares one argument.
type cond struct {
	arg  uint8
	op   operator
	mask uint64 // all ones but for maskedEqual
	val  uint64
}

type operator uint8

const (
	notEqual operator = iota
	lessThan
	lessEqual
	equal
	greaterEqual
	greaterThan
	maskedEqual
)

// always is when a rule without conditions holds.
var always = [][]cond{nil}

const seccompArgs = 6 // linux/seccomp.h: seccomp_data.args

// readRules turns the words of the profile into numbers.
func readRules(p *specs.LinuxSeccomp) ([]rule, error) {
	names := 0
	for i := range p.Syscalls {
		names += len(p.Syscalls[i].Names)
	}
	rules, lines := make([]rule, 0, len(p.Syscalls)), make([]uint16, 0, names)
	for i := range p.Syscalls {
		call := &p.Syscalls[i]
		action, err := readAction(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, fmt.Errorf("seccomp: rule %d: %w", i, err)
		}
		when, err := readArgs(call.Args)
		if err != nil {
			return nil, fmt.Errorf("seccomp: rule %d: %w", i, err)
		}
		first, line := len(lines), 0
		for _, name := range call.Names {
			if name == "" {
				return nil, fmt.Errorf("seccomp: rule %d: a system call without a name", i)
			}
			// The process would have to hand the listener over with it.
			if name == "write" && call.Action == specs.ActNotify {
				return nil, errors.New("seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall")
			}
			if l := findSyscall(name, line+1); l > 0 {
				lines = append(lines, uint16(l))
				line = l
			}
		}
		rules = append(rules, rule{lines: lines[first:], action: action, when: when})
	}
	return rules, nil
}

// readAction gives what the filter returns for an action. EPERM is the errno
// of actions that take one and get none (the spec on errnoRet).
func readAction(action specs.LinuxSeccompAction, errnoRet *uint) (uint32, error) {
	var ret uint32
	switch action {
	case specs.ActErrno, specs.ActTrace:
		ret = unix.SECCOMP_RET_ERRNO
		if action == specs.ActTrace {
			ret = unix.SECCOMP_RET_TRACE
		}
		data := uint(unix.EPERM)
		if errnoRet != nil {
			data = *errnoRet
		}
		if data > unix.SECCOMP_RET_DATA {
			return 0, fmt.Errorf("errnoRet %d of %s does not fit 16 bits", data, action)
		}
		return ret | uint32(data), nil
	case specs.ActKill, specs.ActKillThread:
		ret = unix.SECCOMP_RET_KILL_THREAD
	case specs.ActKillProcess:
		ret = unix.SECCOMP_RET_KILL_PROCESS
	case specs.ActTrap:
		ret = unix.SECCOMP_RET_TRAP
	case specs.ActAllow:
		ret = unix.SECCOMP_RET_ALLOW
	case specs.ActLog:
		ret = unix.SECCOMP_RET_LOG
	case specs.ActNotify:
		ret = unix.SECCOMP_RET_USER_NOTIF
	default:
		return 0, fmt.Errorf("action %q is not one of the OCI spec", action)
	}
	if errnoRet != nil {
		return 0, fmt.Errorf("action %s takes no errnoRet", action)
	}
	return ret, nil
}

// readArgs gives the conditions of a rule. If two look at the same argument,
// each is a condition of its own; so runc has it, since before libseccomp 2.5
// every condition was.
func readArgs(args []specs.LinuxSeccompArg) ([][]cond, error) {
	if len(args) == 0 {
		return always, nil
	}
	conds := make([]cond, len(args))
	seen, twice := 0, false
	for i := range args {
		c, err := readArg(&args[i])
		if err != nil {
			return nil, err
		}
		conds[i] = c
		twice = twice || seen&(1<<c.arg) != 0
		seen |= 1 << c.arg
	}
	if !twice {
		sortByArg(conds)
		return [][]cond{conds}, nil
	}
	when := make([][]cond, len(conds))
	for i := range conds {
		when[i] = conds[i : i+1 : i+1]
	}
	return when, nil
}

// sortByArg inserts each in its place: they are six at most.
func sortByArg(conds []cond) {
	for i := range conds {
		for j := i; j > 0 && conds[j].arg < conds[j-1].arg; j-- {
			conds[j], conds[j-1] = conds[j-1], conds[j]
		}
	}
}

func readArg(a *specs.LinuxSeccompArg) (cond, error) {
	if a.Index >= seccompArgs {
		return cond{}, fmt.Errorf("argument index %d: a system call has %d arguments", a.Index, seccompArgs)
	}
	c := cond{arg: uint8(a.Index), mask: ^uint64(0), val: a.Value}
	switch a.Op {
	case specs.OpNotEqual:
		c.op = notEqual
	case specs.OpLessThan:
		c.op = lessThan
	case specs.OpLessEqual:
		c.op = lessEqual
	case specs.OpEqualTo:
		c.op = equal
	case specs.OpGreaterEqual:
		c.op = greaterEqual
	case specs.OpGreaterThan:
		c.op = greaterThan
	case specs.OpMaskedEqual:
		c.op, c.mask, c.val = maskedEqual, a.Value, a.ValueTwo&a.Value
	default:
		return cond{}, fmt.Errorf("operator %q is not one of the OCI spec", a.Op)
	}
	return c, nil
}

// readFlags gives the flags for seccomp(2). A profile that says nothing gets
// SPEC_ALLOW, as in runc: the mitigations that it turns off are for programs
// that ask for them (Linux 5.16 does so by itself). TSYNC is known and left
// out: one thread installs the filter, before it executes the program.
func readFlags(list []specs.LinuxSeccompFlag) (uint, error) {
	if list == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var flags uint
	for _, f := range list {
		switch f {
		case flagTSync:
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return 0, fmt.Errorf("seccomp: flag %q is not known", f)
		}
	}
	return flags, nil
}
