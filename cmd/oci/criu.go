package oci

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/berth-run/berth/runtime"
)

// images are the options of checkpoint and restore.
func images(k *runtime.CheckpointOptions) []option {
	return []option{
		text("image-path", "DIR", "directory of criu's image files (default ./checkpoint)", &k.ImagePath),
		text("work-path", "DIR", "directory of criu's logs and work files (default: that of the images)", &k.WorkPath),
		yes("tcp-established", "keep open TCP connections", &k.TCPEstablished),
		yes("ext-unix-sk", "keep unix sockets that lead out of the container", &k.ExtUnixSk),
		yes("shell-job", "the process belongs to a shell's session", &k.ShellJob),
		yes("file-locks", "keep file locks", &k.FileLocks),
		text("manage-cgroups-mode", "MODE", "what criu does about cgroups: soft (default), full, strict or ignore", &k.ManageCgroups),
		list("empty-ns", "NAMESPACE", "make this namespace, but do not restore what is in it", &k.EmptyNS),
		yes("auto-dedup", "take duplicates out of memory images", &k.AutoDedup),
		yes("lazy-pages", "restore memory when it is touched (userfaultfd(2))", &k.LazyPages),
	}
}

func (c *call) checkpointCommand() *command {
	k := &runtime.CheckpointOptions{}
	return &command{
		usage: "<container-id>", about: "save the state of a running container with criu",
		more: "The container is deleted afterwards, unless it is to go on.",
		min:  1, max: 1,
		options: append(images(k),
			text("parent-path", "DIR", "image files of an earlier pre-dump, relative to --image-path", &k.ParentPath),
			yes("leave-running", "let the container go on afterwards", &k.LeaveRunning),
			yes("tcp-skip-in-flight", "leave out connections that are not established yet", &k.TCPSkipInFlight),
			yes("link-remap", "link files that have been unlinked", &k.LinkRemap),
			number("status-fd", "write a 0 byte to this descriptor when --lazy-pages is ready", &k.StatusFD),
			text("page-server", "ADDRESS:PORT", "page server that takes the memory", &k.PageServer),
			yes("pre-dump", "save memory only, and let the container go on", &k.PreDump)),
		run: func(args []string) (int, error) { return 0, c.checkpoint(args[0], k) },
	}
}

func (c *call) checkpoint(id string, k *runtime.CheckpointOptions) error {
	c.warnRootless()
	ctr, err := c.container(id)
	if err != nil {
		return err
	}
	if err := imagePath(k); err != nil {
		return err
	}
	if err := ctr.Checkpoint(context.Background(), *k); err != nil {
		return err
	}
	if !k.LeaveRunning && !k.PreDump {
		c.remove(ctr)
	}
	return nil
}

func (c *call) restoreCommand() *command {
	k, b := &runtime.CheckpointOptions{}, &begin{}
	return &command{
		usage: "<container-id>", about: "make a container from what checkpoint saved",
		more: "Without --detach it ends with the container, whose exit status is its own, and deletes it.",
		min:  1, max: 1,
		options: append(append(images(k), b.restoreOptions()...),
			yes("detach,d", "do not wait for the container to end", &b.detach),
			text("lsm-profile", "TYPE:NAME", "profile of a security module for the process", &k.LSMProfile),
			text("lsm-mount-context", "LABEL", "SELinux context of the mounts", &k.LSMMountContext)),
		run: func(args []string) (int, error) { return c.restore(args[0], b, k) },
	}
}

func (c *call) restore(id string, b *begin, k *runtime.CheckpointOptions) (int, error) {
	c.warnRootless()
	// The caller's paths, before the bundle's directory is entered.
	if err := imagePath(k); err != nil {
		return 0, err
	}
	o, err := c.createOptions(b)
	if err != nil {
		return 0, err
	}
	f, err := c.newParent(b)
	if err != nil {
		return 0, err
	}
	defer f.close()
	ctx := context.Background()
	ctr, err := c.store.Restore(ctx, id, *o, *k)
	if err != nil {
		return 0, err
	}
	p := ctr.Process()
	if b.detach {
		return 0, nil
	}
	if p.Console != nil {
		if err := f.terminal(p.Console); err != nil {
			return 0, errors.Join(err, ctr.Delete(ctx, true))
		}
	}
	status := f.wait(p)
	c.remove(ctr)
	return status, nil
}

// warnRootless has runc's words.
func (c *call) warnRootless() {
	if os.Geteuid() != 0 || inUserNamespace() {
		c.log.warn(c.name + " checkpoint is untested with rootless containers")
	}
}

// imagePath makes the paths absolute: the working directory will be the bundle's.
func imagePath(k *runtime.CheckpointOptions) (err error) {
	if k.ImagePath == "" {
		k.ImagePath = "checkpoint"
	}
	if k.ImagePath, err = filepath.Abs(k.ImagePath); err != nil {
		return err
	}
	k.WorkPath, err = absolute(k.WorkPath)
	return err
}
