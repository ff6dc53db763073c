package runtime

import (
	"context"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mounted counts the mounts of this namespace at a path and below it.
func mounted(t *testing.T, path string) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == path || strings.HasPrefix(f[4], path+"/")) {
			n++
		}
	}
	return n
}

func TestMountsOnTheHostEndWithTheContainer(t *testing.T) {
	b := newBox(t)
	b.without("mount")
	c := b.started("host")
	if n := mounted(t, b.root()); n < 4 {
		t.Fatalf("%d mounts: the container was to mount on the host", n)
	}
	b.delete(c)
	if n := mounted(t, b.root()); n != 0 {
		t.Errorf("%d mounts are left on the host", n)
	}
	b.spec.Process.Args = []string{"no-such-program"}
	b.refused("executable file not found")
	if n := mounted(t, b.root()); n != 0 {
		t.Errorf("a failed creation left %d mounts on the host", n)
	}
}

// What was mounted at the root before the container stays, however it ended.
func TestRootThatIsAMountStays(t *testing.T) {
	b := newBox(t)
	if err := unix.Mount(b.root(), b.root(), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(b.root(), unix.MNT_DETACH) })
	b.without("mount")
	b.delete(b.started("host"))
	if n := mounted(t, b.root()); n != 1 {
		t.Errorf("%d mounts, want the one that was there", n)
	}
	c := b.started("again")
	if err := unix.Unmount(b.root(), unix.MNT_DETACH); err != nil { // as a hook does
		t.Fatal(err)
	}
	b.delete(c)
	if n := mounted(t, b.root()); n != 1 {
		t.Errorf("%d mounts, want the one that was there", n)
	}
	b.namespace("mount", "")
	b.delete(b.started("own"))
	if n := mounted(t, b.root()); n != 1 {
		t.Errorf("%d mounts, want the one that was there", n)
	}
}

// A creation that was killed is cleaned up from its state.
func TestMountsOfAKilledCreation(t *testing.T) {
	b := newBox(t)
	b.without("mount")
	c := b.create("killed")
	c.state.Creating, c.state.Gate = true, nil
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	again, err := b.store.Load(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Delete(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	if n := mounted(t, b.root()); n != 0 {
		t.Errorf("%d mounts are left on the host", n)
	}
}

// After a reboot the numbers of mounts are others, and none is the container's.
func TestMountsAfterAReboot(t *testing.T) {
	b := newBox(t)
	if err := unix.Mount(b.root(), b.root(), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(b.root(), unix.MNT_DETACH) })
	c := &Container{state: state{Rootfs: b.root(), RootMount: mountID(b.root()) + 1, Boot: "another"}}
	if err := c.unmountRoot(); err != nil {
		t.Error(err)
	}
	if n := mounted(t, b.root()); n != 1 {
		t.Errorf("%d mounts, want the one that was there", n)
	}
}
