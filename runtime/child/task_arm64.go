package child

// taskSize is the end of user space: 39, 42, 47 or 48 bits by the kernel's
// configuration (Documentation/arch/arm64/memory.rst). Mappings without a hint
// lie near its top, so the least power of two above one of them is it.
func taskSize(mapped uint64) uint64 {
	for _, bits := range []uint{39, 42, 47} {
		if mapped <= 1<<bits {
			return 1 << bits
		}
	}
	return 1 << 48
}
