package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/image"
)

// Volume in docker's JSON shape (volume inspect). It is the folder
// volumes/NAME with _data, the mount point, and volume.json.
type Volume struct {
	CreatedAt  time.Time
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
	Anonymous  bool `json:"-"`

	owner string // id of a container, which may be gone
}

// volumeFile is volume.json.
type volumeFile struct {
	CreatedAt time.Time
	Labels    map[string]string `json:",omitempty"`
	Anonymous bool              `json:",omitempty"`
	Container string            `json:",omitempty"` // id of the one that an anonymous one was made for
}

func (s *Store) volumeDir(name string) string { return s.Root + "/volumes/" + name }

// CreateVolume makes a volume; "" invents a name. One that is there already is
// returned as it is, as docker does.
func (s *Store) CreateVolume(name string, labels map[string]string) (*Volume, error) {
	return s.createVolume(name, labels, "")
}

func (s *Store) createVolume(name string, labels map[string]string, owner string) (*Volume, error) {
	anonymous := name == ""
	if anonymous {
		id, err := newID()
		if err != nil {
			return nil, err
		}
		name = id
	} else if err := checkName("volume", name); err != nil {
		return nil, err
	}
	v, err := s.Volume(name)
	if err == nil || !errors.Is(err, ErrNoVolume) {
		return v, err
	}
	vf := volumeFile{CreatedAt: time.Now().UTC(), Labels: labels, Anonymous: anonymous}
	if anonymous {
		vf.Container = owner
	}
	if err := s.makeVolume(name, vf); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", name, err)
	}
	return s.Volume(name)
}

// makeVolume builds the folder under another name and renames it, so that a
// volume is there whole or not at all.
func (s *Store) makeVolume(name string, vf volumeFile) error {
	id, err := newID()
	if err != nil {
		return err
	}
	tmp := s.volumeDir(".new-" + id)
	held, err := newFolder(tmp)
	if err != nil {
		return err
	}
	defer held.Close()
	b, err := json.Marshal(&vf)
	if err == nil {
		err = os.Mkdir(tmp+"/_data", 0o755)
	}
	if err == nil {
		err = os.WriteFile(tmp+"/volume.json", b, 0o600)
	}
	if err == nil {
		err = os.Rename(tmp, s.volumeDir(name))
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		err = nil // another one made it meanwhile
	}
	return errors.Join(err, os.RemoveAll(tmp))
}

// Volume finds one by name.
func (s *Store) Volume(name string) (*Volume, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%w: %s", ErrNoVolume, name)
	}
	b, err := os.ReadFile(s.volumeDir(name) + "/volume.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoVolume, name)
	}
	var vf volumeFile
	if err == nil {
		err = json.Unmarshal(b, &vf)
	}
	if err != nil {
		return nil, fmt.Errorf("read volume %s: %w", name, err)
	}
	return &Volume{CreatedAt: vf.CreatedAt, Driver: "local", Labels: vf.Labels, Anonymous: vf.Anonymous, owner: vf.Container,
		Mountpoint: s.volumeDir(name) + "/_data", Name: name, Scope: "local"}, nil
}

// Volumes lists all, by name.
func (s *Store) Volumes() ([]*Volume, error) {
	var all []*Volume
	for _, name := range dirNames(s.Root + "/volumes") {
		if name[0] == '.' {
			continue
		}
		v, err := s.Volume(name)
		if errors.Is(err, ErrNoVolume) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// VolumeUsers are the names of the containers that have the volume mounted.
func (s *Store) VolumeUsers(name string) []string {
	var users []string
	for _, id := range s.ids() {
		c, err := s.load(id)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(c.Mounts, func(m MountPoint) bool { return m.Name == name }) {
			users = append(users, c.Name)
		}
	}
	return users
}

// RemoveVolume deletes a volume and its content. One that a container uses is
// refused, also with force; force only makes a missing one no error.
func (s *Store) RemoveVolume(name string, force bool) error {
	if _, err := s.Volume(name); err != nil {
		if force && errors.Is(err, ErrNoVolume) {
			return nil
		}
		return err
	}
	if users := s.VolumeUsers(name); len(users) > 0 {
		return fmt.Errorf("remove volume %s: volume is %w by container %s", name, ErrInUse, strings.Join(users, ", "))
	}
	return s.dropVolume(name)
}

// dropVolume takes the volume out of sight first, so that a killed removal
// leaves no half-empty volume.
func (s *Store) dropVolume(name string) error {
	gone := s.volumeDir(".rm-" + name)
	err := os.Rename(s.volumeDir(name), gone)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) { // of an earlier one of that name
		err = errors.Join(os.RemoveAll(gone), os.Rename(s.volumeDir(name), gone))
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// sweepVolumes removes what killed processes left half made or half removed. A
// living maker has its folder locked.
func (s *Store) sweepVolumes() error {
	var errs []error
	for _, n := range dirNames(s.Root + "/volumes") {
		if !strings.HasPrefix(n, ".rm-") && !strings.HasPrefix(n, ".new-") {
			continue
		}
		if f, err := lockDir(s.volumeDir(n), lockTry); err == nil {
			errs = append(errs, os.RemoveAll(s.volumeDir(n)))
			f.Close()
		}
	}
	return errors.Join(errs...)
}

// dropOwned removes the anonymous volumes of a container whose maker, or
// remover with --rm, was killed: nobody else knows of them.
func (s *Store) dropOwned(id string) error {
	all, err := s.Volumes()
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range all {
		if v.Anonymous && v.owner == id && len(s.VolumeUsers(v.Name)) == 0 {
			errs = append(errs, s.dropVolume(v.Name))
		}
	}
	return errors.Join(errs...)
}

// PruneVolumes removes what no container uses: anonymous ones, with all the named ones too.
func (s *Store) PruneVolumes(all bool) ([]string, error) {
	list, err := s.Volumes()
	if err != nil {
		return nil, err
	}
	var gone []string
	var errs []error
	for _, v := range list {
		if !v.Anonymous && !all || len(s.VolumeUsers(v.Name)) > 0 {
			continue
		}
		if err := s.dropVolume(v.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, v.Name)
	}
	return gone, errors.Join(append(errs, s.sweepVolumes())...)
}

// realize makes the volumes and sources of the wishes and copies the image's
// content into new volumes. id is the container's; rootfs opens the image's
// layers when it is needed.
func (s *Store) realize(id string, wishes []mountWish, rootfs func() (*image.View, error)) ([]MountPoint, error) {
	mounts := make([]MountPoint, 0, len(wishes))
	for i := range wishes {
		w := &wishes[i]
		switch w.Type {
		case "bind":
			if err := w.bindSource(); err != nil {
				return mounts, err
			}
		case "volume":
			v, err := s.createVolume(w.Name, w.labels, id)
			if err != nil {
				return mounts, err
			}
			w.Name, w.Source = v.Name, v.Mountpoint
			// on the list before the copy, so that a failure removes it
			if !slices.Contains(w.Options, "nocopy") {
				m, err := rootfs()
				if err == nil {
					err = copyUp(m, w.Destination, v.Mountpoint)
				}
				if err != nil {
					return append(mounts, w.MountPoint), err
				}
			}
		}
		mounts = append(mounts, w.MountPoint)
	}
	return mounts, nil
}
