package container

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/image"
)

// HostImage is the name that stands for the host's own root file system.
const HostImage = "@host"

// ErrNotFound and its like are what errors.Is finds in the errors of this package.
var (
	ErrNotFound   = errors.New("no such container")
	ErrNoVolume   = errors.New("no such volume")
	ErrNoNetwork  = errors.New("no such network")
	ErrInUse      = errors.New("already in use")
	ErrNotRunning = errors.New("is not running")
	ErrRunning    = errors.New("is running")
	ErrPaused     = errors.New("is paused")
	ErrDetached   = errors.New("detached") // by the detach keys: the container runs on
)

// Store keeps the containers and volumes below one state root:
//
//	containers/ID/     config.json state.json upper work log.json hosts …
//	containers/.new-ID a container that is being made, locked by its maker
//	containers/.rm-ID  one that is being removed, locked by its remover
//	names/NAME         another link of the config.json
//	volumes/NAME/      _data volume.json
//	seccomp/HASH       compiled default profiles
//	mountpoints/       the lowest layer of all: what every container has mounts upon
//
// Every change is one rename, link or mkdir, so the kernel decides who was
// first and a killed process leaves a folder that sweep can tell from a live one.
type Store struct {
	Root   string
	Images *image.Store
}

// Container is one container of a Store.
type Container struct {
	Record
	// Trace, when set, gets every step of a start (run --explain).
	Trace func(step string, err error, d time.Duration) `json:"-"`
	steps *recorder

	logErr error // why the log is not complete

	store    *Store
	dir      string
	held     *os.File    // the lock, from Create until the start
	spec     *specs.Spec // from Create until the start
	unjoined error       // what the last spec lacks: a container whose namespace is joined does not run
	last     *State      // as this process last knew it
	gone     bool        // removed by this process: last is all there is
}

// Open returns the store below root. It creates nothing, and shuts to other
// users what is there.
func Open(root string, images *image.Store) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open container store %s: %w", root, err)
	}
	if err := image.Shut(abs); err != nil {
		return nil, fmt.Errorf("open container store %s: %w", root, err)
	}
	return &Store{Root: abs, Images: images}, nil
}

func (s *Store) containers() string      { return s.Root + "/containers" }
func (s *Store) dir(id string) string    { return s.Root + "/containers/" + id }
func (s *Store) namesDir() string        { return s.Root + "/names" }
func (s *Store) link(name string) string { return s.Root + "/names/" + name }

// mountPoints is a layer below all others with the files and directories that
// every container has something mounted upon. An image that has them, as most
// do, hides these; without them each start would create them in the container's
// own layer, and each end delete them there.
const mountPoints = "mountpoints"

func (s *Store) makeMountPoints() error {
	dir := s.Root + "/" + mountPoints
	if err := unix.Access(dir, unix.F_OK); err == nil {
		return nil
	}
	tmp, err := os.MkdirTemp(s.Root, "."+mountPoints)
	if err != nil {
		return fmt.Errorf("make the layer of mount points: %w", err)
	}
	defer os.RemoveAll(tmp)
	err = os.Chmod(tmp, 0o755)
	for _, d := range [...]string{"dev", "etc", "proc", "sys"} {
		err = errors.Join(err, os.Mkdir(tmp+"/"+d, 0o755))
	}
	for _, f := range networkFiles {
		err = errors.Join(err, os.WriteFile(tmp+"/etc/"+f, nil, 0o644))
	}
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil && unix.Access(dir, unix.F_OK) != nil { // else another berth was faster
		return fmt.Errorf("make the layer of mount points: %w", err)
	}
	return nil
}

// newID returns 64 hex digits from the kernel's generator (getrandom(2)).
func newID() (string, error) {
	var b [32]byte
	if _, err := unix.Getrandom(b[:], 0); err != nil {
		return "", fmt.Errorf("make container id: getrandom: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// isID tells whether s could be the start of an id.
func isID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Lookup finds a container as docker does: by full id, by name, by a prefix of
// the id that fits one container only.
func (s *Store) Lookup(nameOrID string) (*Container, error) {
	ref := strings.TrimPrefix(nameOrID, "/")
	if len(ref) == 64 && isID(ref) {
		if c, err := s.load(ref); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	if validName(ref) {
		if id := s.owner(ref); id != "" {
			if c, err := s.load(id); err == nil || !errors.Is(err, fs.ErrNotExist) {
				return c, err
			}
		}
	}
	if !isID(ref) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, nameOrID)
	}
	found := ""
	for _, id := range s.ids() {
		if !strings.HasPrefix(id, ref) {
			continue
		}
		if found != "" {
			return nil, fmt.Errorf("%s: more than one container has an id that starts so", nameOrID)
		}
		found = id
	}
	if found != "" {
		if c, err := s.load(found); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, nameOrID)
}

// List returns all containers, newest first. What killed processes left is
// removed on the way: half-made folders, and --rm containers that have ended.
func (s *Store) List() ([]*Container, error) {
	s.sweep()
	var all []*Container
	for _, id := range s.ids() {
		c, err := s.load(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by somebody else since
		}
		if err != nil {
			return nil, err
		}
		if c.abandoned() && c.Remove(false, true) == nil {
			continue
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return all, nil
}

// ids lists the folders of containers; those that start with a dot are not (yet, any more) one.
func (s *Store) ids() []string {
	var ids []string
	for _, n := range dirNames(s.containers()) {
		if n[0] != '.' {
			ids = append(ids, n)
		}
	}
	return ids
}

func dirNames(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return names
}

// load reads one container; fs.ErrNotExist if it is not there.
func (s *Store) load(id string) (*Container, error) {
	b, err := os.ReadFile(s.dir(id) + "/config.json")
	if err != nil {
		return nil, fmt.Errorf("read container %s: %w", short(id), err)
	}
	c := &Container{store: s, dir: s.dir(id)}
	if err := coldjson.Unmarshal(b, &c.Record); err != nil {
		return nil, fmt.Errorf("read container %s: config.json: %w", short(id), err)
	}
	return c, nil
}

// save replaces config.json; a reader sees the old or the new one.
func (c *Container) save() error {
	b, err := coldjson.Sparse(&c.Record)
	if err == nil {
		err = replaceFile(c.dir+"/config.json", b)
	}
	if err != nil {
		return fmt.Errorf("save container %s: %w", c.Name, err)
	}
	return nil
}

// replaceFile writes beside path and renames. No fsync: after a power cut the
// processes that these files tell of are gone as well.
func replaceFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// short is the form of an id that people read.
func short(id string) string { return id[:min(12, len(id))] }

// ImageInUse tells whether a container was made from the image with this id.
func (s *Store) ImageInUse(imageID string) bool {
	for _, id := range s.ids() {
		if c, err := s.load(id); err == nil && c.ImageID == imageID {
			return true
		}
	}
	return false
}

// lockDir takes the lock of a container's folder: whoever makes, starts, ends
// or removes a container holds it (flock(2) on the folder itself, so that no
// lock file is left and the kernel frees it with its holder). Between open and
// lock the folder may have been renamed or removed by who had the lock: then
// it is ours no longer, and the error is fs.ErrNotExist.
func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	var ours, now unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &ours)
	}
	if err == nil {
		err = unix.Stat(dir, &now)
	}
	if err == nil && (ours.Ino != now.Ino || ours.Dev != now.Dev) {
		err = unix.ENOENT
	}
	if err != nil {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: dir, Err: err}, f.Close())
	}
	return f, nil
}

// lock locks the container and makes sure that it is still there under its
// id: it may have been removed while we waited.
func (c *Container) lock() (func(), error) {
	if c.held != nil { // still ours since Create
		f := c.held
		c.held = nil
		return func() { f.Close() }, nil
	}
	f, err := lockDir(c.dir, unix.LOCK_EX)
	if err == nil {
		return func() { f.Close() }, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, c.Name)
	}
	return nil, fmt.Errorf("container %s: %w", c.Name, err)
}
