package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
)

func addContainer(t *testing.T, s *Store, id, name string) *Container {
	t.Helper()
	c := &Container{store: s, dir: s.dir(id)}
	c.ID, c.Name, c.Created = id, name, time.Now().UTC()
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	if err := s.claimName(name, c.dir+"/config.json"); err != nil {
		t.Fatal(err)
	}
	return c
}

// record writes the beginning of one, as Create does.
func record(t *testing.T, dir, id string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(dir+"/config.json", []byte(idPrefix+id), 0o600); err != nil {
		t.Error(err)
	}
	return dir + "/config.json"
}

func TestNames(t *testing.T) {
	for _, ok := range []string{"ab", "a.b-c_d", "0x"} {
		if !validName(ok) {
			t.Errorf("%q refused", ok)
		}
	}
	for _, bad := range []string{"", "a/b", "a b", ".x", "-", "-x", "a:b", "ä1", strings.Repeat("x", 201)} {
		if validName(bad) {
			t.Errorf("%q taken", bad)
		}
	}
	for i := range 20 {
		id, err := newID()
		if err != nil || len(id) != 64 || !isID(id) {
			t.Fatal(id, err)
		}
		if n := inventName(id, i); !validName(n) || !strings.Contains(n, "_") {
			t.Errorf("invented %q", n)
		}
	}
}

func TestLookup(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	a := addContainer(t, s, strings.Repeat("a", 64), "web")
	addContainer(t, s, "ab"+strings.Repeat("0", 62), "db")
	for _, ref := range []string{"web", "/web", "aaa", a.ID} {
		if c, err := s.Lookup(ref); err != nil || c.ID != a.ID {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := s.Lookup("a"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a prefix of two: %v", err)
	}
	for _, ref := range []string{"nope", "", "fff", "../../etc"} {
		if _, err := s.Lookup(ref); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), ref) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestNameIsTakenOnce(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	var wg sync.WaitGroup
	won := make(chan string, 20)
	for range 20 {
		wg.Go(func() {
			id, _ := newID()
			if s.claimName("one", record(t, s.dir(id), id)) == nil {
				won <- id
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Errorf("%d have the name", len(won))
	}
	// of a killed process: no container, nobody making it
	os.RemoveAll(s.dir(<-won))
	id, _ := newID()
	if err := s.claimName("one", record(t, s.dir(id), id)); err != nil {
		t.Error(err)
	}
}

func TestStateOfDeadProcess(t *testing.T) {
	c := addContainer(t, &Store{Root: t.TempDir()}, strings.Repeat("c", 64), "x1")
	if st := c.State(); st.Status != Created {
		t.Error(st)
	}
	ticks, ok := engine.ProcessStart(os.Getpid())
	if !ok {
		t.Fatal("no start time of this process")
	}
	live := State{Status: Running, Pid: os.Getpid(), StartTicks: ticks, Boot: engine.BootID()}
	c.writeState(live, false)
	if st := c.State(); st.Status != Running {
		t.Error(st)
	}
	live.StartTicks++ // the number is another process's now
	c.writeState(live, false)
	if st := c.State(); st.Status != Exited || st.ExitCode != 255 || st.FinishedAt.IsZero() {
		t.Error(st)
	}
}

func TestSweepLeavesTheLiving(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	dead, live := strings.Repeat("d", 64), strings.Repeat("e", 64)
	for _, id := range []string{dead, live} {
		os.MkdirAll(s.dir(".new-"+id)+"/upper/x", 0o755)
		if err := s.claimName("n-"+id[:2], record(t, s.dir(".new-"+id), id)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := lockDir(s.dir(".new-"+live), lockTry)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.sweep()
	if _, err := os.Stat(s.dir(".new-" + dead)); err == nil {
		t.Error("a leftover is still there")
	}
	if _, err := os.Lstat(s.link("n-dd")); err == nil {
		t.Error("its name is still there")
	}
	if _, err := os.Stat(s.dir(".new-" + live)); err != nil {
		t.Error("a container that is being made was removed")
	}
	if !s.exists(live) {
		t.Error("a container that is being made does not hold its name")
	}
}

func TestVolumes(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	v, err := s.CreateVolume("data", map[string]string{"k": "v"})
	if err != nil || v.Labels["k"] != "v" {
		t.Fatal(v, err)
	}
	again, err := s.CreateVolume("data", nil)
	if err != nil || !again.CreatedAt.Equal(v.CreatedAt) {
		t.Error("made twice", err)
	}
	anon, err := s.CreateVolume("", nil)
	if err != nil || len(anon.Name) != 64 {
		t.Fatal(anon, err)
	}
	c := addContainer(t, s, strings.Repeat("f", 64), "user")
	c.Mounts = []MountPoint{{Type: "volume", Name: "data"}}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveVolume("data", true); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "user") {
		t.Errorf("remove a used volume: %v", err)
	}
	gone, err := s.PruneVolumes(false)
	if err != nil || len(gone) != 1 || gone[0] != anon.Name {
		t.Error(gone, err)
	}
	os.RemoveAll(c.dir)
	if err := s.RemoveVolume("data", false); err != nil {
		t.Error(err)
	}
	if err := s.RemoveVolume("data", false); !errors.Is(err, ErrNoVolume) {
		t.Error(err)
	}
	if _, err := s.CreateVolume("a/b", nil); err == nil {
		t.Error("no error for a bad name")
	}
}

func TestLockOfWhatIsGone(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"renamed": func(dir string) error { return os.Rename(dir, dir+"2") },
		"removed": os.Remove,
		"another": func(dir string) error { return errors.Join(os.Rename(dir, dir+"2"), os.Mkdir(dir, 0o700)) },
	} {
		dir := t.TempDir() + "/folder"
		held, err := newFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			f, err := lockDir(dir, unix.LOCK_EX)
			if err == nil {
				f.Close()
			}
			got <- err
		}()
		for !waitsForLock(t) {
			time.Sleep(time.Millisecond)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		held.Close()
		if err := <-got; !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// waitsForLock tells whether a thread of this process is in flock(2).
func waitsForLock(t *testing.T) bool {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		call, _ := os.ReadFile("/proc/self/task/" + th.Name() + "/syscall")
		if strings.HasPrefix(string(call), fmt.Sprint(unix.SYS_FLOCK)+" ") {
			return true
		}
	}
	return false
}

// ps sweeps while others make containers: neither may see the other.
func TestSweepWhileMaking(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	stop := make(chan struct{})
	var sweeps, makers sync.WaitGroup
	for range 2 {
		sweeps.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.sweep()
				}
			}
		})
	}
	for range 4 {
		makers.Go(func() {
			for range 50 {
				id, _ := newID()
				tmp := s.dir(".new-" + id)
				held, err := newFolder(tmp)
				if err != nil {
					t.Error(err)
					return
				}
				err = s.claimName("n"+id, record(t, tmp, id))
				if err == nil {
					err = os.Rename(tmp, s.dir(id))
				}
				held.Close()
				if err != nil || s.owner("n"+id) != id {
					t.Errorf("made and gone: %v, the name has %q", err, s.owner("n"+id))
				}
			}
		})
	}
	makers.Wait()
	close(stop)
	sweeps.Wait()
}

func TestSweepVolumes(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	if _, err := s.CreateVolume("v", nil); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{".new-dead/_data/x", ".rm-v/_data/x", ".new-live"} {
		if err := os.MkdirAll(s.volumeDir(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f, err := lockDir(s.volumeDir(".new-live"), lockTry)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.dropVolume("v"); err != nil { // over the rest of an earlier removal
		t.Error(err)
	}
	if _, err := s.PruneVolumes(true); err != nil {
		t.Error(err)
	}
	if got := dirNames(s.Root + "/volumes"); len(got) != 1 || got[0] != ".new-live" {
		t.Errorf("left: %q", got)
	}
}

func TestNoLostUpdate(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	id := addContainer(t, s, strings.Repeat("a", 64), "one").ID
	var c [3]*Container // three processes have read it
	for i := range c {
		var err error
		if c[i], err = s.load(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c[0].SetRestart("always"), c[1].Rename("two"), c[2].UpdateLimits(Options{CPUShares: 512})); err != nil {
		t.Fatal(err)
	}
	got, err := s.Lookup("two")
	if err != nil {
		t.Fatal(err)
	}
	if o := got.Options; o.Restart != "always" || o.CPUShares != 512 || got.Name != "two" {
		t.Errorf("restart %q, shares %d, name %q", o.Restart, o.CPUShares, got.Name)
	}
}

func TestNameOfOneThatIsBeingRemoved(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	old := addContainer(t, s, strings.Repeat("a", 64), "web")
	remover, err := lockDir(old.dir, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer remover.Close()
	if err := os.Rename(old.dir, s.dir(".rm-"+old.ID)); err != nil {
		t.Fatal(err)
	}
	s.freeNames() // a prune leaves it to the remover
	id := strings.Repeat("b", 64)
	got := make(chan error, 1)
	go func() { got <- s.claimName("web", record(t, s.dir(id), id)) }()
	select {
	case err := <-got:
		t.Fatalf("the name was given away while its owner is being removed: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if s.owner("web") != old.ID {
		t.Error("the name was taken away from who will do that himself")
	}
	s.freeName("web", old.ID)
	if err := <-got; err != nil || s.owner("web") != id {
		t.Errorf("%v, the name has %q", err, s.owner("web"))
	}
	s.freeName("web", old.ID) // no longer his
	if s.owner("web") != id {
		t.Error("the new owner lost the name")
	}
}

// Who decides that a link is stale and takes it away must be alone with that.
func TestSweepWaitsForNames(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	dead := strings.Repeat("d", 64)
	if err := s.claimName("web", record(t, s.dir(".rm-"+dead), dead)); err != nil {
		t.Fatal(err)
	}
	claimer, err := lockDir(s.namesDir(), unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.sweep(); close(done) }()
	for !waitsForLock(t) {
		select {
		case <-done:
			t.Fatal("the sweep did not wait for the lock")
		case <-time.After(time.Millisecond):
		}
	}
	live := strings.Repeat("e", 64) // takes its place meanwhile
	if err := errors.Join(os.Remove(s.link("web")), os.Link(record(t, s.dir(live), live), s.link("web"))); err != nil {
		t.Fatal(err)
	}
	claimer.Close()
	<-done
	if s.owner("web") != live {
		t.Error("the sweep took a live container's name")
	}
}

func TestRenamedElsewhereThenRemoved(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	c := addContainer(t, s, strings.Repeat("a", 64), "one")
	other, err := s.load(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.Rename("two"), c.Remove(false, false)); err != nil {
		t.Fatal(err)
	}
	if left := dirNames(s.namesDir()); len(left) != 0 {
		t.Errorf("names left: %q", left)
	}
}

func TestSweepDropsOwnVolumes(t *testing.T) {
	s := &Store{Root: t.TempDir()}
	made, rm, kept := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)
	for _, id := range []string{made, rm, kept} {
		if _, err := s.createVolume("", nil, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.createVolume("named", nil, made); err != nil {
		t.Fatal(err)
	}
	for dir, config := range map[string]string{".new-" + made: "", ".rm-" + rm: `{"Options":{"Remove":true}}`, ".rm-" + kept: `{}`} {
		os.MkdirAll(s.dir(dir), 0o700)
		if err := os.WriteFile(s.dir(dir)+"/config.json", []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.sweep()
	left, err := s.Volumes()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range left {
		if v.Anonymous && v.owner != kept {
			t.Error("left the volume of", v.owner)
		}
	}
	if len(left) != 2 { // that of a container which was removed without -v, and the named one
		t.Errorf("%d volumes are left", len(left))
	}
}
