// Package runtime is the life cycle of an OCI runtime as a library: containers
// that are created from a bundle, started, joined, watched and deleted, each
// kept as one directory below a root.
//
//	s := &runtime.Store{Root: "/run/berth-oci"}
//	c, err := s.Create(ctx, "web", runtime.CreateOptions{Bundle: dir, Stdout: f})
//	err = c.Start(ctx)
//	p, err := c.Exec(ctx, runtime.ExecOptions{Process: &specs.Process{…}})
//	exit, err := p.Wait()
//	err = c.Kill(unix.SIGTERM, false)
//	exit, err = c.Wait()
//	err = c.Delete(ctx, false)
//	err = c.Checkpoint(ctx, runtime.CheckpointOptions{ImagePath: images})
//	c, err = s.Restore(ctx, "web", runtime.CreateOptions{Bundle: dir}, runtime.CheckpointOptions{ImagePath: images})
//
// Nothing is global: two stores do not know of each other. Errors that a caller
// may want to tell apart are the Err… values, for errors.Is; those of a start
// that failed are an *engine.StartError inside. Contexts end what still waits;
// a container that a cancelled Create was making is gone when it returns.
//
// How a process comes to be is the matter of package runtime/engine.
package runtime
