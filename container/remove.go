package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/netns"
)

// lockTry takes the lock or fails at once.
const lockTry = unix.LOCK_EX | unix.LOCK_NB

// Remove deletes the container. With force a running one is killed first;
// volumes also removes the anonymous volumes it made.
func (c *Container) Remove(force, volumes bool) error {
	for {
		if c.busy() {
			if !force {
				return fmt.Errorf("cannot remove container %s: it %w; stop it first or use force", c.Name, ErrRunning)
			}
			if err := c.end(); err != nil {
				return fmt.Errorf("remove container %s: %w", c.Name, err)
			}
		}
		unlock, err := c.lock()
		if errors.Is(err, ErrNotFound) && force {
			return nil // a --rm container went by itself meanwhile
		}
		if err != nil {
			return err
		}
		if c.busy() { // it was being started while we waited for the lock
			unlock()
			continue
		}
		err = c.remove(volumes)
		unlock()
		if err != nil {
			return fmt.Errorf("remove container %s: %w", c.Name, err)
		}
		return nil
	}
}

func (c *Container) busy() bool {
	st := c.State()
	return st.Status == Running || st.Status == Paused || st.Status == Restarting
}

// end kills whatever runs and waits until it is gone. The monitor, if it
// lives, is given the time to record it.
func (c *Container) end() error {
	if err := c.requestStop(); err != nil {
		return err
	}
	c.unfreeze()
	st := c.State()
	if _, err := st.send(unix.SIGKILL); err != nil {
		return err
	}
	for i := 0; ; i++ {
		switch cur := c.readState(); {
		case cur.Status != Running && cur.Status != Paused && cur.Status != Restarting,
			!cur.alive() && !cur.watched():
			return nil
		}
		if i > 2500 {
			return fmt.Errorf("process %d does not end", st.Pid)
		}
		time.Sleep(4 * time.Millisecond)
	}
}

// requestStop tells the monitor, by the state, that the end is wanted.
func (c *Container) requestStop() error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	st := c.readState()
	if st.Status == Created || st.Status == Exited {
		return nil
	}
	st.StopRequested = true
	if err := c.writeState(st, false); err != nil {
		return fmt.Errorf("write the state of container %s: %w", c.Name, err)
	}
	c.last = nil
	return nil
}

// remove deletes all there is of the container, holding its lock. The folder
// goes out of sight first, under a name that tells sweep what is left to do.
func (c *Container) remove(volumes bool) error {
	// what is still mounted there would be walked into
	if err := errors.Join(c.unmount(unix.MNT_DETACH), c.dropShm()); err != nil {
		return err
	}
	gone := c.store.dir(".rm-" + c.ID)
	if err := os.Rename(c.dir, gone); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	c.gone = true
	c.nameNow(gone)
	c.store.freeName(c.Name, c.ID)
	errs := []error{c.releaseNetwork(), c.removeCgroup()}
	if volumes {
		errs = append(errs, c.dropAnonymous())
	}
	return errors.Join(append(errs, removeFolder(gone))...)
}

// nameNow finds out whether another process has renamed the container. A record
// that was saved has one link, that of Create has its name as the second.
func (c *Container) nameNow(dir string) {
	var st unix.Stat_t
	if unix.Stat(dir+"/config.json", &st) != nil || st.Nlink == 2 {
		return
	}
	var now Record
	if b, err := os.ReadFile(dir + "/config.json"); err == nil && coldjson.Unmarshal(b, &now) == nil {
		c.Name = now.Name
	}
}

// removeFolder unlinks what a container that wrote nothing has, without
// listing folders; what is not so is removed the long way.
func removeFolder(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.RemoveAll(dir)
	}
	for _, f := range [...]string{"config.json", "state.json", "hosts", "hostname", "resolv.conf", "log.json"} {
		unix.Unlinkat(fd, f, 0)
	}
	unix.Unlinkat(fd, "work/work/incompat/volatile/dirty", 0) // of a volatile overlay
	for _, d := range [...]string{"work/work/incompat/volatile", "work/work/incompat", "work/work", "work", "upper"} {
		unix.Unlinkat(fd, d, unix.AT_REMOVEDIR)
	}
	unix.Close(fd)
	if unix.Rmdir(dir) == nil {
		return nil
	}
	return os.RemoveAll(dir)
}

// sweep removes folders that killed processes left half made or half removed.
// It returns their ids.
func (s *Store) sweep() []string {
	var ids []string
	for _, n := range dirNames(s.containers()) {
		id, made := strings.CutPrefix(n, ".new-")
		if !made {
			var removed bool
			if id, removed = strings.CutPrefix(n, ".rm-"); !removed {
				continue
			}
		}
		f, err := lockDir(s.dir(n), lockTry)
		if err != nil {
			continue // somebody is at it
		}
		c := &Container{store: s, dir: s.dir(n)}
		c.ID, c.Options.Network = id, "bridge" // config.json may not be there: look everywhere
		if made || s.removed(n) {
			s.dropOwned(id) // before the folder, which tells of them
		}
		s.freeNames(id)
		c.releaseNetwork()
		c.removeCgroup()
		if os.RemoveAll(s.dir(n)) == nil {
			ids = append(ids, id)
		}
		f.Close()
	}
	return ids
}

// removed tells that a half removed folder is of a container with --rm, whose
// anonymous volumes go with it.
func (s *Store) removed(folder string) bool {
	var r Record
	b, err := os.ReadFile(s.dir(folder) + "/config.json")
	return err == nil && coldjson.Unmarshal(b, &r) == nil && r.Options.Remove
}

// owned tells that a container with this id is there, or on its way in or out
// in the hands of a living process.
func (s *Store) owned(id string) bool {
	if s.exists(id) {
		return true
	}
	f, err := lockDir(s.dir(".rm-"+id), lockTry)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

// Prune clears what killed processes left behind and no container owns: half
// made or removed folders, names, cgroups, links, leases. It returns the ids of
// what was found; running and stopped containers are not touched.
func (s *Store) Prune() ([]string, error) {
	ids := s.sweep()
	all, err := s.List() // removes --rm containers that have ended
	if err != nil {
		return ids, err
	}
	errs := []error{}
	for _, c := range all {
		if st := c.State(); st.Status == Exited && !st.watched() {
			if unlock, err := c.lock(); err == nil {
				if cur := c.State(); cur.Status == Exited {
					if c.readState().Status != Exited {
						errs = append(errs, c.writeState(cur, false))
					}
					errs = append(errs, c.release())
				}
				unlock()
			}
		}
	}
	s.freeNames()
	errs = append(errs, netns.Prune(s.Root, s.owned), s.sweepVolumes())
	return ids, errors.Join(errs...)
}

// PruneContainers removes all containers that do not run.
func (s *Store) PruneContainers() ([]string, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var ids []string
	var errs []error
	for _, c := range all {
		if st := c.State(); st.Status != Created && st.Status != Exited {
			continue
		}
		if err := c.Remove(false, false); err != nil {
			if !errors.Is(err, ErrRunning) && !errors.Is(err, ErrNotFound) {
				errs = append(errs, err)
			}
			continue
		}
		ids = append(ids, c.ID)
	}
	return ids, errors.Join(errs...)
}
