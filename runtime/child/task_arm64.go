package child

import "sync"

// taskSize is the end of user space: 36 to 52 bits by the kernel's configuration
// and the processor (Documentation/arch/arm64/memory.rst).
var taskSize = sync.OnceValue(func() uint64 { return probe(1<<52, 1<<48, 1<<47, 1<<42, 1<<39, 1<<36) })
