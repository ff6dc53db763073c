#include "textflag.h"

// func handler()
//
// Called by the kernel, on the thread's stack for signals, as C would: R0 is the
// number. It knows nothing of Go and Go nothing of it.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0-0
	SUB  $16, RSP
	MOVB R0, 0(RSP)
	MOVD ·pipe(SB), R0
	MOVD RSP, R1
	MOVD $1, R2
	MOVD $64, R8 // write; a full pipe has signals enough
	SVC
	ADD  $16, RSP
	RET

// func restorer()
TEXT ·restorer(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $139, R8 // rt_sigreturn
	SVC
	BRK

// func addresses() (handler, restorer uintptr)
TEXT ·addresses(SB), NOSPLIT, $0-16
	MOVD $·handler(SB), R0
	MOVD R0, handler+0(FP)
	MOVD $·restorer(SB), R0
	MOVD R0, restorer+8(FP)
	RET
