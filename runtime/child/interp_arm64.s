// The interpreter for arm64: see interp.go for its rules.

#include "textflag.h"
#include "layout.h"

#define NR_write 64
#define NR_close 57
#define NR_rt_sigprocmask 135
#define NR_wait4 260
#define NR_kill 129
#define NR_rt_sigtimedwait 137
#define NR_exit_group 94
#define NR_clone3 435

// func clone(args, size, code, header uintptr) (pid, errno uintptr)
//
// clone3 and, in the child, a jump to the copy of the interpreter. The child
// shares no memory with the parent and never returns into Go.
TEXT ·clone(SB), NOSPLIT, $8-48
	MOVD code+16(FP), R20
	MOVD header+24(FP), R19
	MOVD $2, R0 // SIG_SETMASK
	ADD  $header_all, R19, R1
	MOVD $old-8(SP), R2
	MOVD $8, R3
	MOVD $NR_rt_sigprocmask, R8
	SVC
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD $NR_clone3, R8
	SVC
	CBZ  R0, child
	MOVD R0, R21
	MOVD $2, R0
	MOVD $old-8(SP), R1
	MOVD ZR, R2
	MOVD $8, R3
	MOVD $NR_rt_sigprocmask, R8
	SVC
	CMN  $4095, R21
	BCS  failed
	MOVD R21, pid+32(FP)
	MOVD ZR, errno+40(FP)
	RET
failed:
	NEG  R21, R21
	MOVD ZR, pid+32(FP)
	MOVD R21, errno+40(FP)
	RET
child:
	B    (R20)

// func cloneApart(a *apart)
//
// A process that shares all memory, and runs while this thread waits
// (CLONE_VFORK), makes the child. It has no stack of its own and touches none.
TEXT ·cloneApart(SB), NOSPLIT, $0-8
	MOVD a+0(FP), R22
	MOVD apart_code(R22), R20
	MOVD apart_header(R22), R19
	ADD  $apart_outer, R22, R0
	MOVD $apart_args_size, R1
	MOVD $NR_clone3, R8
	SVC
	CBZ  R0, helper
	MOVD R0, apart_helper(R22)
	RET
helper:
	MOVD apart_ns(R22), R0
	TBNZ $63, R0, inner
	MOVD $0x20000000, R1 // CLONE_NEWPID
	MOVD $268, R8        // setns: what it forks is there, it stays
	SVC
	CBNZ R0, over
inner:
	ADD  $apart_inner, R22, R0
	MOVD $apart_args_size, R1
	MOVD $NR_clone3, R8
	SVC
	CBZ  R0, child
over:
	MOVD R0, apart_result(R22)
	MOVD ZR, R0
	MOVD $93, R8 // exit
	SVC
	BRK
child:
	B    (R20)

// func interpreter()
//
// R19 is the header, R20 the call at hand. No stack, no data but the region's.
TEXT ·interpreter(SB), NOSPLIT|NOFRAME, $0-0
	MOVD header_ops(R19), R20
next:
	MOVWU op_refs(R20), R21
	MOVD (op_args+0)(R20), R0
	TBZ  $0, R21, a1
	MOVD (R0), R0
a1:
	MOVD (op_args+8)(R20), R1
	TBZ  $1, R21, a2
	MOVD (R1), R1
a2:
	MOVD (op_args+16)(R20), R2
	TBZ  $2, R21, a3
	MOVD (R2), R2
a3:
	MOVD (op_args+24)(R20), R3
	TBZ  $3, R21, a4
	MOVD (R3), R3
a4:
	MOVD (op_args+32)(R20), R4
	TBZ  $4, R21, a5
	MOVD (R4), R4
a5:
	MOVD (op_args+40)(R20), R5
	TBZ  $5, R21, a6
	MOVD (R5), R5
a6:
	MOVD op_nr(R20), R8
	SVC
	CMN  $4, R0 // EINTR: a stop signal came and went
	BEQ  interrupted
returned:
	MOVD R0, op_result(R20)
	WORD $0xd53be049 // MRS CNTVCT_EL0, R9
	MOVD R9, op_tick(R20)
	CMN  $4095, R0
	BCS  error
	MOVWU op_flags(R20), R21
	TBZ  $0, R21, notread
	CBNZ R0, notread
	MOVD $-32, R0 // EPIPE
	B    fatal
notread:
	CBZ  R0, store
	TBNZ $1, R21, reaper
	TBNZ $2, R21, hand
	B    store
interrupted:
	MOVWU op_flags(R20), R21
	TBZ  $3, R21, next
	MOVD ZR, R0
	B    returned
store:
	MOVD op_save(R20), R9
	CBZ  R9, then
	MOVD R0, (R9)
	MOVD op_hole(R20), R9
	CBZ  R9, then
	MOVW R0, (R9)
then:
	MOVWU op_then(R20), R9
	MOVD $op_size, R10
	MUL  R10, R9, R9
	ADD  R9, R20
advance:
	ADD  $op_size, R20
	B    next
error:
	NEG  R0, R9
	MOVWU (op_may+0)(R20), R10
	CMPW R10, R9
	BEQ  tolerated
	MOVWU (op_may+4)(R20), R10
	CMPW R10, R9
	BEQ  tolerated
	MOVWU (op_may+8)(R20), R10
	CMPW R10, R9
	BEQ  tolerated
fatal:
	NEG  R0, R9
	MOVD header_ops(R19), R10
	SUB  R10, R20, R10
	MOVW R10, (header_report+0)(R19)
	MOVW R9, (header_report+4)(R19)
	MOVD header_errfd(R19), R0
	ADD  $header_report, R19, R1
	MOVD $8, R2
	MOVD $NR_write, R8
	SVC
	MOVD $127, R0
	MOVD $NR_exit_group, R8
	SVC
tolerated:
	MOVWU op_skip(R20), R9
	MOVD $op_size, R10
	MUL  R10, R9, R9
	ADD  R9, R20
	B    advance

// hand: R0 has taken over, and is our parent's child (CLONE_PARENT).
hand:
	MOVD R0, header_handed(R19)
	MOVD ZR, R0
	MOVD $NR_exit_group, R8
	SVC

// The reaper: R22 is the child. Signals are taken one by one; each but SIGCHLD
// goes to the child.
reaper:
	MOVD R0, R22
	MOVD header_errfd(R19), R0 // only the child tells errors
	MOVD $NR_close, R8
	SVC
take:
	ADD  $header_all, R19, R0
	MOVD ZR, R1
	MOVD ZR, R2
	MOVD $8, R3
	MOVD $NR_rt_sigtimedwait, R8
	SVC
	CMP  $0, R0
	BLE  take
	CMP  $17, R0 // SIGCHLD
	BEQ  reap
	MOVD R0, R1
	MOVD R22, R0
	MOVD $NR_kill, R8
	SVC
	B    take
reap:
	MOVD $-1, R0
	ADD  $header_status, R19, R1
	MOVD $1, R2 // WNOHANG
	MOVD ZR, R3
	MOVD $NR_wait4, R8
	SVC
	CMP  $0, R0
	BLE  take
	CMP  R22, R0
	BNE  reap
	MOVWU header_status(R19), R9
	LSR  $8, R9, R0
	AND  $0xff, R0, R0
	ANDS $0x7f, R9, R9
	BEQ  leave
	ADD  $128, R9, R0
leave:
	MOVD $NR_exit_group, R8
	SVC
	BRK

// handler is that of a signal while a container waits (step.DieBySignal): the
// process ends with 128 and the signal's number. It runs on the region's stack.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0-0
	ADD  $128, R0, R0
	MOVD $NR_exit_group, R8
	SVC
	BRK

// func entry() uintptr
TEXT ·entry(SB), NOSPLIT, $0-8
	MOVD $·interpreter(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func handlerEntry() uintptr
TEXT ·handlerEntry(SB), NOSPLIT, $0-8
	MOVD $·handler(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func codeEnd() uintptr
TEXT ·codeEnd(SB), NOSPLIT, $0-8
	MOVD $·entry(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func ticks() uint64
TEXT ·ticks(SB), NOSPLIT, $0-8
	WORD $0xd53be040 // MRS CNTVCT_EL0, R0
	MOVD R0, ret+0(FP)
	RET
