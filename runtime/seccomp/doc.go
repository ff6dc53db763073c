// Package seccomp compiles the seccomp profile of an OCI spec into the classic
// BPF program that seccomp(2) installs. It needs neither libseccomp nor cgo,
// and knows every architecture, action, operator and flag of the spec.
//
// How a profile becomes a program (Compile in compile.go), file by file:
//
//	profile.go   the profile is read: words become numbers, mistakes errors
//	arch.go      which architectures it is for: the native one always first
//	table.go     names become system call numbers (syscalls.txt, gentable.go)
//	rules.go     rules become one verdict per number: an action, or a list of
//	             alternatives that look at the arguments (order.go)
//	spans.go     neighbours with the same verdict become one span of numbers
//	tree.go      the spans become a tree of comparisons, the arguments (args.go)
//	             straight lines of them
//	assemble.go  instructions are laid down from the last to the first, so that
//	             every jump knows where it goes
//
// The program looks as follows. Nothing but the number is looked at for a
// system call without conditions, so the kernel answers most of them from its
// bitmap and does not run the program at all (Linux 5.11, seccomp_cache_prepare).
//
//	load arch;  amd64? i386?  else kill
//	load nr;    bisect by nr  →  action, or the tests of arguments
//
// # Meaning
//
// The verdicts are those of runc 1.4 with libseccomp 2.5 and 2.6:
//
//   - A rule without conditions beats those with. Of two without, the first counts.
//   - Conditions of one rule must all hold; but if two of them look at the same
//     argument, each is a rule of its own.
//   - Rules whose action is the default action say nothing.
//   - System calls without a name in the table are left out.
//   - On a 32-bit architecture (x32 is one) only the lower half of arguments and
//     values is compared.
//   - socketcall(2) and ipc(2) follow the rules for the calls that they carry.
//   - A system call of an architecture that the profile does not list kills the
//     thread; so does one of x32 where only amd64 is listed.
//   - Where the default action refuses, a number above all those that the profile
//     names gets ENOSYS: a C library that tries a new call takes the old one
//     then, where EPERM would make it fail (runc's libcontainer/seccomp/patchbpf).
//
// Rules of one system call with different actions, whose conditions overlap, are
// tried in the order of order.go; two with the same conditions are an error.
//
// # What is otherwise
//
// runc accepts an errnoRet with an action that has no use for it. The spec
// demands an error, and gets one here (crun does so too).
//
// Numbers from 0xf0000, which are ARM's private calls, do not count as the
// largest that a profile names, nor does a call count as absent that goes
// through socketcall(2): runc's patch takes both otherwise, and a new call
// gets EPERM on ARM.
//
// libseccomp (2.5.4 and 2.6.1) compiles some profiles wrongly that have rules
// of several conditions for one system call: it compares the wrong word, takes
// a rule for redundant, or never comes to an end. The tests know how to tell
// (confused_test.go, model_test.go). Which of two rules with different actions
// counts for an argument of more than 32 bits depends there on the order of
// all rules; here it does not.
package seccomp
