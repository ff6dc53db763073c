// Package child turns a plan into a process: one clone3, then system calls from
// a table, then execve. It holds the only unsafe code of berth.
//
// Rules of the child, between clone3 and execve:
//   - It runs no Go. The interpreter is some 60 instructions without stack that
//     were copied, with the table, into a region of their own: the rest of the
//     parent's memory can be unmapped (step.LeaveMemory) and with it the binary.
//   - It was cloned without CLONE_VM: it shares no memory with the parent but
//     the table, into which it writes what each call returned and when.
//   - All signals are blocked from before clone3 until the step Signals.
//   - It never decides. A call that fails with an error not listed for it ends
//     the process after 8 bytes on the error pipe: offset of the call in the
//     table, and errno. The pipe closes on execve: end of file is success.
package child

// clone is clone3 and the child's jump into the interpreter (interp_*.s), with
// all signals blocked: a handler of the Go runtime must not run in the child. The
// caller gets its own mask back.
func clone(args, size, code, header uintptr) (pid, errno uintptr)

// cloneApart is clone by way of a process between (interp_*.s).
//
//go:noescape
func cloneApart(a *apart)

// interpreter is never called: its text is copied into the region.
//
//lint:ignore U1000 entry, in assembly, takes its address
func interpreter()

// handler is never called either: the kernel does.
//
//lint:ignore U1000 handlerEntry, in assembly, takes its address
func handler()

// handlerEntry is the address of handler's text, which follows interpreter's.
func handlerEntry() uintptr

// codeEnd is the address of the text that follows it.
func codeEnd() uintptr

// entry is the address of interpreter's text.
func entry() uintptr
