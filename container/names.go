package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/image"
)

// validName is docker's rule [a-zA-Z0-9][a-zA-Z0-9_.-]+ for containers and volumes.
func validName(s string) bool {
	if s == "" || len(s) > 200 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return true
}

func checkName(kind, s string) error {
	if !validName(s) {
		return fmt.Errorf("invalid %s name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 200 of them", kind, s)
	}
	return nil
}

// A name is a hard link to its container's config.json, which begins with the
// id and never changes there: link(2) fails if the name is taken, so the kernel
// decides between two that want it. A link rather than a file or a symbolic
// link, since making an inode is what costs most in making a container.

// owner is the id that a name stands for, "" if nobody has it.
func (s *Store) owner(name string) string {
	f, err := os.Open(s.link(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	return idIn(f)
}

// idPrefix is how a record begins; 64 digits and a quote follow.
const idPrefix = `{"ID":"`

func idIn(f *os.File) string {
	var b [len(idPrefix) + 64]byte
	if n, err := f.ReadAt(b[:], 0); n < len(b) || err != nil && err != io.EOF {
		return ""
	}
	id := string(b[len(idPrefix):])
	if string(b[:len(idPrefix)]) != idPrefix || !isID(id) {
		return ""
	}
	return id
}

// A link may be taken away by the maker or remover of its container, who has
// the lock of its folder, and, while there is no such process, by whoever has
// the lock of names/. So nobody hits a link that was put there since he looked.

// claimName gives the name to the container whose record is the file config.
// A link whose container is gone and not being made is left of a killed
// process and replaced.
func (s *Store) claimName(name, config string) error {
	err := unix.Link(config, s.link(name))
	if err == unix.ENOENT {
		if err := image.MakeFolder(s.namesDir()); err != nil {
			return fmt.Errorf("take the name %s: %w", name, err)
		}
		err = unix.Link(config, s.link(name))
	}
	for end := time.Now().Add(10 * time.Second); err == unix.EEXIST; {
		wait, staleErr := s.freeStale(name)
		if staleErr != nil {
			return staleErr
		}
		if wait {
			time.Sleep(time.Millisecond)
		}
		err = unix.Link(config, s.link(name))
		if time.Now().After(end) {
			break
		}
	}
	if err == unix.EEXIST {
		return fmt.Errorf("the container name %q is %w by one that is being removed", name, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("take the name %s: %w", name, err)
	}
	return nil
}

// freeStale takes the name away from a container that is gone. wait: it is
// being removed, and its remover will do that.
func (s *Store) freeStale(name string) (wait bool, err error) {
	l, err := lockDir(s.namesDir(), unix.LOCK_EX)
	if err != nil {
		return false, fmt.Errorf("take the name %s: %w", name, err)
	}
	defer l.Close()
	if _, err := os.Lstat(s.link(name)); errors.Is(err, fs.ErrNotExist) {
		return false, nil // and perhaps taken again, by somebody who needs no lock for it
	}
	owner := s.owner(name)
	if s.exists(owner) {
		return false, fmt.Errorf("the container name %q is %w by container %s", name, ErrInUse, short(owner))
	}
	if s.owned(owner) {
		return true, nil
	}
	if err := os.Remove(s.link(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("take the name %s: %w", name, err)
	}
	return false, nil
}

// exists tells whether id is a container or is being made by a living process.
func (s *Store) exists(id string) bool {
	if !isID(id) {
		return false
	}
	if _, err := os.Lstat(s.dir(id)); err == nil {
		return true
	}
	f, err := lockDir(s.dir(".new-"+id), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		f.Close()
		return false
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true
	}
	_, err = os.Lstat(s.dir(id)) // renamed between the two looks
	return err == nil
}

// freeName takes the name away if it still is this container's. The caller has
// the container's lock.
func (s *Store) freeName(name, id string) {
	if name != "" && s.owner(name) == id {
		os.Remove(s.link(name))
	}
}

// freeNames takes away all names whose container is gone, and those of the
// containers in also, whose folders the caller has locked.
func (s *Store) freeNames(also ...string) {
	l, err := lockDir(s.namesDir(), unix.LOCK_EX)
	if err != nil {
		return // there are none
	}
	defer l.Close()
	for _, name := range dirNames(s.namesDir()) {
		id := s.owner(name)
		if slices.Contains(also, id) || id != "" && !s.owned(id) {
			os.Remove(s.link(name))
		}
	}
}

// The words are joined in one string each: strings cost nothing at start-up,
// a slice of them would be built by every command.
const (
	adjectives = "able airy amber ample azure bold brave breezy bright brisk calm clear clever cosy crisp deft eager early easy even fair fleet fond free fresh gentle glad golden grand green hardy hazy honest humble jolly keen kind lively loyal lucid mellow merry mild misty neat nimble noble open patient plain polite proud quick quiet ready rosy salty sandy sharp silent silver simple smooth snug solid sound spry stable steady still sunny swift tidal tidy trim true vivid warm wide windy wise witty young"
	nouns      = "anchor bay beacon boat bollard bow breaker bridge buoy cable canal canoe cape captain cargo chart cleat coast compass cove crane crew current cutter deck delta derrick dinghy dock drift eddy estuary ferry fjord fleet float galley gangway gull harbor hatch haven heron hull inlet island jetty kayak keel ketch knot lagoon lantern ledger lighthouse lock log mast mooring oar ocean otter packet pelican pier pilot port quay raft reef rigging rope rudder sail schooner seal sextant shoal shore sloop sound spar stern strait surf tern tide tiller tug wave wharf winch yawl"
)

// inventName makes an adjective_noun from the digits of the id; tries 1, 2, …
// take other digits, and a number from the third on.
func inventName(id string, try int) string {
	pick := func(words string, at int) string {
		n := 0
		for _, c := range id[at : at+6] {
			n = n*16 + strings.IndexRune("0123456789abcdef", c)
		}
		list := strings.Fields(words)
		return list[n%len(list)]
	}
	at := try % 8 * 6
	name := pick(adjectives, at) + "_" + pick(nouns, at+8)
	if try > 1 {
		name = fmt.Sprintf("%s%d", name, try)
	}
	return name
}
