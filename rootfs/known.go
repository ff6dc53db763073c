package rootfs

// MountOptions are the options of a mount that have a meaning here, sorted; any
// other is handed to the file system.
func MountOptions() []string {
	return []string{"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "lazytime", "noatime", "nodev",
		"nodiratime", "noexec", "nosuid", "nosymfollow", "private", "rbind", "relatime", "rnodev", "rnoexec", "rnosuid", "ro",
		"rprivate", "rro", "rshared", "rslave", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid", "sync", "unbindable"}
}
