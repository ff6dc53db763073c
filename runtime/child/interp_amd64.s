// The interpreter for amd64: see interp.go for its rules.

#include "textflag.h"
#include "layout.h"

#define NR_write 1
#define NR_close 3
#define NR_rt_sigprocmask 14
#define NR_wait4 61
#define NR_kill 62
#define NR_rt_sigtimedwait 128
#define NR_exit_group 231
#define NR_clone3 435

// func clone(args, size, code, header uintptr) (pid, errno uintptr)
//
// clone3 and, in the child, a jump to the copy of the interpreter. The child
// shares no memory with the parent and never returns into Go.
TEXT ·clone(SB), NOSPLIT, $8-48
	MOVQ code+16(FP), R13
	MOVQ header+24(FP), R12
	MOVQ $2, DI // SIG_SETMASK
	LEAQ header_all(R12), SI
	LEAQ old-8(SP), DX
	MOVQ $8, R10
	MOVQ $NR_rt_sigprocmask, AX
	SYSCALL
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ $NR_clone3, AX
	SYSCALL
	TESTQ AX, AX
	JZ   child
	MOVQ AX, BX
	MOVQ $2, DI
	LEAQ old-8(SP), SI
	XORL DX, DX
	MOVQ $8, R10
	MOVQ $NR_rt_sigprocmask, AX
	SYSCALL
	CMPQ BX, $0xfffffffffffff001
	JCC  failed
	MOVQ BX, pid+32(FP)
	MOVQ $0, errno+40(FP)
	RET
failed:
	NEGQ BX
	MOVQ $0, pid+32(FP)
	MOVQ BX, errno+40(FP)
	RET
child:
	JMP R13

// func cloneApart(a *apart)
//
// A process that shares all memory, and runs while this thread waits
// (CLONE_VFORK), makes the child. It has no stack of its own and touches none.
TEXT ·cloneApart(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), R10
	MOVQ apart_code(R10), R13
	MOVQ apart_header(R10), R12
	LEAQ apart_outer(R10), DI
	MOVQ $apart_args_size, SI
	MOVQ $NR_clone3, AX
	SYSCALL
	TESTQ AX, AX
	JZ   helper
	MOVQ AX, apart_helper(R10)
	RET
helper:
	MOVQ apart_ns(R10), DI
	TESTQ DI, DI
	JLT  inner
	MOVQ $0x20000000, SI // CLONE_NEWPID
	MOVQ $308, AX        // setns: what it forks is there, it stays
	SYSCALL
	TESTQ AX, AX
	JNZ  over
inner:
	LEAQ apart_inner(R10), DI
	MOVQ $apart_args_size, SI
	MOVQ $NR_clone3, AX
	SYSCALL
	TESTQ AX, AX
	JZ   child
over:
	MOVQ AX, apart_result(R10)
	XORL DI, DI
	MOVQ $60, AX // exit
	SYSCALL
	INT  $3
child:
	JMP R13

// func interpreter()
//
// R12 is the header, R13 the call at hand. No stack, no data but the region's.
TEXT ·interpreter(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ header_ops(R12), R13
next:
	MOVL op_refs(R13), R14
	MOVQ (op_args+0)(R13), DI
	TESTL $1, R14
	JZ   a1
	MOVQ (DI), DI
a1:
	MOVQ (op_args+8)(R13), SI
	TESTL $2, R14
	JZ   a2
	MOVQ (SI), SI
a2:
	MOVQ (op_args+16)(R13), DX
	TESTL $4, R14
	JZ   a3
	MOVQ (DX), DX
a3:
	MOVQ (op_args+24)(R13), R10
	TESTL $8, R14
	JZ   a4
	MOVQ (R10), R10
a4:
	MOVQ (op_args+32)(R13), R8
	TESTL $16, R14
	JZ   a5
	MOVQ (R8), R8
a5:
	MOVQ (op_args+40)(R13), R9
	TESTL $32, R14
	JZ   a6
	MOVQ (R9), R9
a6:
	MOVQ op_nr(R13), AX
	SYSCALL
	CMPQ AX, $-4 // EINTR: a stop signal came and went
	JEQ  interrupted
returned:
	MOVQ AX, BX
	MOVQ AX, op_result(R13)
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, op_tick(R13)
	CMPQ BX, $0xfffffffffffff001
	JCC  error
	MOVL op_flags(R13), R14
	TESTL $flag_nonzero, R14
	JZ   notread
	TESTQ BX, BX
	JNZ  notread
	MOVQ $-32, BX // EPIPE
	JMP  fatal
notread:
	TESTQ BX, BX
	JZ   store
	TESTL $flag_reap, R14
	JNZ  reaper
	TESTL $flag_hand, R14
	JNZ  hand
store:
	MOVQ op_save(R13), AX
	TESTQ AX, AX
	JZ   then
	MOVQ BX, (AX)
	MOVQ op_hole(R13), AX
	TESTQ AX, AX
	JZ   then
	MOVL BX, (AX)
then:
	MOVL op_then(R13), AX
	IMULQ $op_size, AX
	ADDQ AX, R13
advance:
	ADDQ $op_size, R13
	JMP  next
interrupted:
	MOVL op_flags(R13), R14
	TESTL $flag_once, R14
	JZ   next
	XORL AX, AX
	JMP  returned
error:
	MOVQ BX, AX
	NEGQ AX
	CMPL AX, (op_may+0)(R13)
	JEQ  tolerated
	CMPL AX, (op_may+4)(R13)
	JEQ  tolerated
	CMPL AX, (op_may+8)(R13)
	JEQ  tolerated
fatal:
	NEGQ BX
	MOVQ R13, AX
	SUBQ header_ops(R12), AX
	MOVL AX, (header_report+0)(R12)
	MOVL BX, (header_report+4)(R12)
	MOVQ header_errfd(R12), DI
	LEAQ header_report(R12), SI
	MOVQ $8, DX
	MOVQ $NR_write, AX
	SYSCALL
	MOVQ $127, DI
	MOVQ $NR_exit_group, AX
	SYSCALL
tolerated:
	MOVL op_skip(R13), AX
	IMULQ $op_size, AX
	ADDQ AX, R13
	JMP  advance

// hand: BX has taken over, and is our parent's child (CLONE_PARENT).
hand:
	MOVQ BX, header_handed(R12)
	XORL DI, DI
	MOVQ $NR_exit_group, AX
	SYSCALL

// The reaper: BX is the child. Signals are taken one by one; each but SIGCHLD
// goes to the child.
reaper:
	MOVQ header_errfd(R12), DI // only the child tells errors
	MOVQ $NR_close, AX
	SYSCALL
take:
	LEAQ header_all(R12), DI
	XORL SI, SI
	XORL DX, DX
	MOVQ $8, R10
	MOVQ $NR_rt_sigtimedwait, AX
	SYSCALL
	TESTQ AX, AX
	JLE  take
	CMPQ AX, $17 // SIGCHLD
	JEQ  reap
	MOVQ BX, DI
	MOVQ AX, SI
	MOVQ $NR_kill, AX
	SYSCALL
	JMP  take
reap:
	MOVQ $-1, DI
	LEAQ header_status(R12), SI
	MOVQ $1, DX // WNOHANG
	XORL R10, R10
	MOVQ $NR_wait4, AX
	SYSCALL
	TESTQ AX, AX
	JLE  take
	CMPQ AX, BX
	JNE  reap
	MOVL header_status(R12), AX
	MOVL AX, DI
	SHRL $8, DI
	ANDL $0xff, DI
	ANDL $0x7f, AX
	JZ   leave
	ADDL $128, AX
	MOVL AX, DI
leave:
	MOVQ $NR_exit_group, AX
	SYSCALL
	INT  $3

// handler is that of a signal while a container waits (step.DieBySignal): the
// process ends with 128 and the signal's number. It runs on the region's stack.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0-0
	ADDL $128, DI
	MOVL $NR_exit_group, AX
	SYSCALL
	INT  $3

// func entry() uintptr
TEXT ·entry(SB), NOSPLIT, $0-8
	LEAQ ·interpreter(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func handlerEntry() uintptr
TEXT ·handlerEntry(SB), NOSPLIT, $0-8
	LEAQ ·handler(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func codeEnd() uintptr
TEXT ·codeEnd(SB), NOSPLIT, $0-8
	LEAQ ·entry(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func ticks() uint64
TEXT ·ticks(SB), NOSPLIT, $0-8
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
