package container

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mountWish is a mount as parsed, before volumes are made and sources looked at.
type mountWish struct {
	MountPoint
	mustExist bool // --mount type=bind: a missing source is an error, -v makes a folder
	labels    map[string]string
}

// parseVolume reads docker's -v [SOURCE:]DESTINATION[:OPTIONS]. A source with a
// slash or a dot in front is a path of the host, any other is a volume's name.
func parseVolume(spec string) (mountWish, error) {
	bad := func(why string) (mountWish, error) {
		return mountWish{}, fmt.Errorf("invalid volume specification %q: %s", spec, why)
	}
	f := strings.Split(spec, ":")
	w := mountWish{MountPoint: MountPoint{Type: "volume", RW: true}}
	switch {
	case len(f) > 3:
		return bad("too many colons")
	case len(f) == 1:
		w.Destination, w.Anonymous = f[0], true
	default:
		w.Source, w.Destination = f[0], f[1]
	}
	if len(f) == 2 && !strings.HasPrefix(f[1], "/") { // DESTINATION:OPTIONS is not docker's
		return bad("the path inside the container must be absolute")
	}
	if len(f) == 3 {
		for o := range strings.SplitSeq(f[2], ",") {
			if err := w.volumeOption(o); err != nil {
				return bad(err.Error())
			}
		}
	}
	if !w.Anonymous {
		if err := w.setSource(); err != nil {
			return bad(err.Error())
		}
	}
	if err := w.setDestination(); err != nil {
		return bad(err.Error())
	}
	return w, nil
}

// volumeOption takes one option of -v; two of a kind are refused as by docker.
func (w *mountWish) volumeOption(o string) error {
	switch o {
	case "rw", "":
	case "ro":
		w.RW = false
	case "z", "Z", "cached", "delegated", "consistent", "default":
		// SELinux relabelling and macOS caching: nothing to do on this host
	case "nocopy":
		w.Options = append(w.Options, "nocopy")
	case "rprivate", "private", "rshared", "shared", "rslave", "slave":
		if w.Propagation != "" {
			return fmt.Errorf("two propagation modes")
		}
		w.Propagation = o
	case "bind", "rbind", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "U", "idmap":
		if o == "U" || o == "idmap" {
			return fmt.Errorf("option %q is not known", o)
		}
		w.Options = append(w.Options, o)
	default:
		return fmt.Errorf("option %q is not known", o)
	}
	return nil
}

// setSource decides between a host path and a volume's name.
func (w *mountWish) setSource() error {
	src := w.Source
	switch {
	case src == "":
		return errors.New("the source is empty")
	case src[0] == '/' || src[0] == '.':
		abs, err := filepath.Abs(src)
		if err != nil {
			return err
		}
		w.Type, w.Source = "bind", abs
	default:
		if !validName(src) {
			return fmt.Errorf("%q includes characters that a volume name may not have; for a folder of the host use an absolute path or ./%s", src, src)
		}
		w.Name, w.Source = src, ""
	}
	return nil
}

func (w *mountWish) setDestination() error {
	if !strings.HasPrefix(w.Destination, "/") {
		return fmt.Errorf("the path inside the container must be absolute: %q", w.Destination)
	}
	w.Destination = path.Clean(w.Destination)
	if w.Destination == "/" {
		return errors.New("the destination cannot be /")
	}
	return nil
}

// parseMount reads docker's --mount KEY=VALUE,… (a line of CSV).
func parseMount(spec string) (mountWish, error) {
	w := mountWish{MountPoint: MountPoint{Type: "volume", RW: true}}
	fields, err := csv.NewReader(strings.NewReader(spec)).Read()
	if err != nil {
		return w, fmt.Errorf("invalid --mount %q: %w", spec, err)
	}
	for _, f := range fields {
		if key, val, _ := strings.Cut(f, "="); strings.EqualFold(key, "type") {
			w.Type = strings.ToLower(val)
		}
	}
	for _, f := range fields {
		key, val, has := strings.Cut(f, "=")
		if err := w.mountKey(strings.ToLower(key), val, has); err != nil {
			return w, fmt.Errorf("invalid --mount %q: %w", spec, err)
		}
	}
	if err := w.checkMount(); err != nil {
		return w, fmt.Errorf("invalid --mount %q: %w", spec, err)
	}
	return w, nil
}

// mountKey takes one KEY=VALUE of --mount.
func (w *mountWish) mountKey(key, val string, has bool) error {
	flag := true
	switch key {
	case "readonly", "ro", "volume-nocopy", "bind-nonrecursive", "rw":
		if has {
			b, err := strconv.ParseBool(val)
			if err != nil {
				return fmt.Errorf("%s=%s: not a truth value", key, val)
			}
			flag = b
		}
	default:
		if !has {
			return fmt.Errorf("field %q must be a key=value pair", key)
		}
	}
	switch key {
	case "type", "consistency":
	case "source", "src":
		w.Source = val
	case "target", "dst", "destination":
		w.Destination = val
	case "readonly", "ro":
		w.RW = !flag
	case "rw":
		w.RW = flag
	default:
		typ, _, _ := strings.Cut(key, "-")
		if typ != "bind" && typ != "volume" && typ != "tmpfs" {
			return fmt.Errorf("unknown key %q", key)
		}
		if w.Type != typ {
			return fmt.Errorf("%s does not fit type %s", key, w.Type)
		}
		return w.typeKey(key, val, flag)
	}
	return nil
}

// typeKey takes the keys that belong to one type.
func (w *mountWish) typeKey(key, val string, flag bool) error {
	switch key {
	case "bind-propagation":
		if !slices.Contains([]string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}, val) {
			return fmt.Errorf("bind-propagation %q is not known", val)
		}
		w.Propagation = val
	case "bind-nonrecursive":
		if flag {
			w.Options = append(w.Options, "bind")
		}
	case "bind-recursive":
		return w.bindRecursive(val)
	case "volume-nocopy":
		if flag {
			w.Options = append(w.Options, "nocopy")
		}
	case "volume-driver":
		if val != "local" && val != "" {
			return fmt.Errorf("volume driver %q is not there, only local", val)
		}
	case "volume-label":
		if w.labels == nil {
			w.labels = map[string]string{}
		}
		k, v, _ := strings.Cut(val, "=")
		w.labels[k] = v
	case "tmpfs-size":
		n, err := parseSize(val)
		if err != nil {
			return err
		}
		w.Options = append(w.Options, "size="+strconv.FormatInt(n, 10))
	case "tmpfs-mode":
		if _, err := strconv.ParseUint(val, 8, 32); err != nil {
			return fmt.Errorf("tmpfs-mode %q: not an octal mode", val)
		}
		w.Options = append(w.Options, "mode="+val)
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}

func (w *mountWish) bindRecursive(val string) error {
	switch val {
	case "enabled", "readonly":
	case "disabled":
		w.Options = append(w.Options, "bind")
	case "writable":
		w.Options = append(w.Options, "ro-top") // submounts stay writable
	default:
		return fmt.Errorf("bind-recursive %q is not known", val)
	}
	return nil
}

// checkMount holds the fields against the type.
func (w *mountWish) checkMount() error {
	switch w.Type {
	case "bind":
		if w.Source == "" {
			return errors.New("type bind needs a source")
		}
		abs, err := filepath.Abs(w.Source)
		if err != nil {
			return err
		}
		w.Source, w.mustExist = abs, true
	case "volume":
		w.Name, w.Source = w.Source, ""
		if w.Name == "" {
			w.Anonymous = true
		} else if err := checkName("volume", w.Name); err != nil {
			return err
		}
	case "tmpfs":
		if w.Source != "" {
			return errors.New("type tmpfs has no source")
		}
	default:
		return fmt.Errorf("type %q is not known; there are bind, volume and tmpfs", w.Type)
	}
	if w.Destination == "" {
		return errors.New("target is missing")
	}
	return w.setDestination()
}

// parseTmpfs reads --tmpfs DIR[:OPTIONS].
func parseTmpfs(spec string) (mountWish, error) {
	dst, opts, has := strings.Cut(spec, ":")
	w := mountWish{MountPoint: MountPoint{Type: "tmpfs", Destination: dst, RW: true}}
	if has && opts != "" {
		for o := range strings.SplitSeq(opts, ",") {
			switch o {
			case "ro":
				w.RW = false
			case "rw":
			default:
				w.Options = append(w.Options, o)
			}
		}
	}
	if err := w.setDestination(); err != nil {
		return w, fmt.Errorf("invalid --tmpfs %q: %w", spec, err)
	}
	return w, nil
}

// mountWishes collects what the options and the image ask for, in docker's
// order of precedence: --volumes-from is replaced by -v and --mount at the same
// path, the image's VOLUME gives way to everything. Two of the user's own at one path are an error.
func (s *Store) mountWishes(o *Options, volumes map[string]struct{}) ([]mountWish, error) {
	var own []mountWish
	parse := func(specs []string, f func(string) (mountWish, error)) error {
		for _, spec := range specs {
			w, err := f(spec)
			if err != nil {
				return err
			}
			for i := range own {
				if own[i].Destination == w.Destination {
					return fmt.Errorf("duplicate mount point: %s", w.Destination)
				}
			}
			own = append(own, w)
		}
		return nil
	}
	if err := errors.Join(parse(o.Volumes, parseVolume), parse(o.Mounts, parseMount), parse(o.Tmpfs, parseTmpfs)); err != nil {
		return nil, err
	}
	taken := func(dst string) bool {
		return slices.ContainsFunc(own, func(w mountWish) bool { return w.Destination == dst })
	}
	for _, from := range o.VolumesFrom {
		name, mode, _ := strings.Cut(from, ":")
		c, err := s.Lookup(name)
		if err != nil {
			return nil, fmt.Errorf("volumes from %s: %w", name, err)
		}
		for _, m := range c.Mounts {
			if m.Type == "tmpfs" || taken(m.Destination) {
				continue
			}
			if mode == "ro" {
				m.RW = false
			}
			m.Anonymous = false // the other container's to remove
			own = append(own, mountWish{MountPoint: m, mustExist: true})
		}
	}
	declared := make([]string, 0, len(volumes))
	for dst := range volumes {
		declared = append(declared, path.Clean(dst))
	}
	slices.Sort(declared)
	for _, dst := range declared {
		if strings.HasPrefix(dst, "/") && dst != "/" && !taken(dst) {
			own = append(own, mountWish{MountPoint: MountPoint{Type: "volume", Destination: dst, RW: true, Anonymous: true}})
		}
	}
	// parents first, so that a mount inside another is not covered by it
	slices.SortStableFunc(own, func(a, b mountWish) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return own, nil
}

// bindSource checks or makes the host's side of a bind mount.
func (w *mountWish) bindSource() error {
	_, err := os.Stat(w.Source)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
		return nil
	}
	if w.mustExist {
		return fmt.Errorf("invalid mount: bind source path does not exist: %s", w.Source)
	}
	if err := os.MkdirAll(w.Source, 0o755); err != nil {
		return fmt.Errorf("make the source of a bind mount: %w", err)
	}
	return nil
}

// parseSize reads 64m, 1g, 512k, 10b, 4096: powers of 1024, as docker has them.
func parseSize(s string) (int64, error) {
	num := strings.ToLower(strings.TrimSpace(s))
	num = strings.TrimSuffix(num, "b")
	num = strings.TrimSuffix(num, "i")
	shift := 0
	if num != "" {
		if i := strings.IndexByte("kmgtp", num[len(num)-1]); i >= 0 {
			shift, num = (i+1)*10, num[:len(num)-1]
		}
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f < 0 || f*float64(int64(1)<<shift) > 1<<62 || f != f {
		return 0, fmt.Errorf("invalid size %q", s)
	}
	return int64(f * float64(int64(1)<<shift)), nil
}
