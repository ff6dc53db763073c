package child

// taskSize is the end of user space as far as mmap gives addresses without a
// hint: 47 bits, less the guard page (Documentation/arch/x86/x86_64/mm.rst).
func taskSize() uint64 { return 1<<47 - 4096 }
