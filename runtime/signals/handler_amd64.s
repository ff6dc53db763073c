#include "textflag.h"

// func handler()
//
// Called by the kernel, on the thread's stack for signals, as C would: DI is the
// number. It knows nothing of Go and Go nothing of it.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0-0
	SUBQ $24, SP
	MOVB DI, 0(SP)
	MOVQ ·pipe(SB), DI
	MOVQ SP, SI
	MOVL $1, DX
	MOVL $1, AX // write; a full pipe has signals enough
	SYSCALL
	ADDQ $24, SP
	RET

// func restorer()
TEXT ·restorer(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $15, AX // rt_sigreturn
	SYSCALL
	INT  $3

// func addresses() (handler, restorer uintptr)
TEXT ·addresses(SB), NOSPLIT, $0-16
	LEAQ ·handler(SB), AX
	MOVQ AX, handler+0(FP)
	LEAQ ·restorer(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
