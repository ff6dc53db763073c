//go:build cgo

package main

// A child of a program with cgo cannot unmap glibc's memory: the kernel writes to
// its rseq area (rseq(2), registered by glibc 2.35 for each thread) whenever the
// process is scheduled, and ends it with SIGSEGV. Rather than such a berth there is none.
var _ = build_with_CGO_ENABLED_0
