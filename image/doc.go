// Package image knows what an image is: its name, its configuration, its
// layers, and the files below the state root in which they are kept.
//
//	layers/ID/fs      one unpacked layer, ready as a lower directory of overlayfs
//	layers/ID/record  its digests and sizes
//	layers/ID/recipe  what is needed besides fs to write the layer's tar again, byte for byte
//	layers/ID/old/N   files that a later entry of the same layer replaced (rare)
//	images/HEX        one image: what was decided about it, then its configuration as it came
//	images/names      every name, one "HEX name" a line
//
// ID is the start of the layer's ChainID (image-spec, config.md): a layer is
// unpacked with those below it in view, because a directory that it does not
// list keeps the mode and owner of the lower layer, a parent may be a symbolic
// link below, and a hard link may name a file below. And overlayfs refuses the
// same lower directory twice, which one image may well ask for.
//
// There is no database. Every change is made in a folder or file whose name
// starts with a dot and becomes visible by one rename, so a process that is
// killed leaves only such files; they are locked by their maker, and whoever
// finds one without a living owner removes it (see sweep).
//
// Everything that is read from an image is data from a stranger. The limits
// that keep it from harming the host are the constants in limits.go.
package image
