package image

// Bounds on what an image may ask for. They are far above what honest images
// hold, and are reported as errors, never by cutting something off.
const (
	// maxManifest bounds a manifest or index; registries refuse more than 4 MiB
	// (distribution-spec, "Pushing Manifests").
	maxManifest = 4 << 20
	// maxConfig bounds an image configuration, in bytes.
	maxConfig = 8 << 20
	// MaxLayers is what one overlayfs mount takes below its own: OVL_MAX_STACK
	// in fs/overlayfs/params.h, 500, less one for the caller's use.
	MaxLayers = 499
	// maxEntries bounds the entries of one layer, and so the inodes that it can take.
	maxEntries = 4 << 20
	// A layer may expand to freeExpansion bytes, and beyond that to maxRatio
	// times its compressed size. gzip packs zeros 1030:1 and zstd 30000:1, a
	// text log 50:1. Blocks of zeros become holes, so they take no disk.
	freeExpansion = 1 << 30
	maxRatio      = 250
	// maxPath bounds an entry's path after its links are followed: PATH_MAX.
	maxPath = 4096
	// maxLinks is how many symbolic links one path may lead through: the kernel's MAXSYMLINKS.
	maxLinks = 40
	// maxArchive bounds the entries of an archive of images.
	maxArchive = 1 << 17
	// maxIndexDepth bounds how deep an index may list an index.
	maxIndexDepth = 4
	// maxWindow bounds what a zstd frame makes the reader remember: that of zstd --long.
	maxWindow = 128 << 20
)
