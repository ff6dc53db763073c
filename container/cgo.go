//go:build cgo

package container

// builtWithCgo: the C library registers memory with the kernel (rseq(2)) that
// the first process of a container gives back before it is itself. The kernel
// would end it with SIGSEGV, without a word.
const builtWithCgo = true
