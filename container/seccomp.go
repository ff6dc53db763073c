package container

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	goruntime "runtime"
	"slices"
	"strings"

	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/seccomp"
)

// profileVersion is part of the name under which a compiled default profile is
// kept: another one when package profile or the compiler changes.
const profileVersion = "moby 0.2.3, berth 1"

// inlineProfiles puts the text of a profile in the place of its file's name, as
// docker's client does: the container keeps what it was created with.
func inlineProfiles(opts []string) error {
	for i, opt := range opts {
		key, val, ok := strings.Cut(opt, "=")
		if !ok {
			key, val, ok = strings.Cut(opt, ":")
		}
		if !ok || key != "seccomp" || val == "unconfined" || val == "builtin" || strings.HasPrefix(val, "{") {
			continue
		}
		b, err := os.ReadFile(val)
		if err != nil {
			return fmt.Errorf("--security-opt %s: %w", opt, err)
		}
		text := strings.TrimSpace(string(b))
		if !strings.HasPrefix(text, "{") {
			return fmt.Errorf("--security-opt %s: not a seccomp profile in JSON", opt)
		}
		opts[i] = "seccomp=" + text
	}
	return nil
}

// filter is the container's seccomp filter, nil for none. Which calls docker's
// default profile allows depends on the capabilities and the kernel. With keep a
// newly compiled one is stored.
func (c *Container) filter(keep bool) (*seccomp.Filter, error) {
	o := &c.Options
	sec, err := parseSecurity(o.SecurityOpt)
	if err != nil {
		return nil, err
	}
	if sec.seccomp == "unconfined" || o.Privileged && sec.seccomp == "" {
		return nil, nil
	}
	caps, err := capSet(o.CapAdd, o.CapDrop, o.Privileged, boundingSet())
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{Process: &specs.Process{Capabilities: processCaps(caps, 0)}}
	if sec.seccomp == "" || sec.seccomp == "builtin" {
		return c.store.defaultFilter(spec, keep)
	}
	p, err := profile.LoadProfile(sec.seccomp, spec)
	if err != nil {
		return nil, fmt.Errorf("--security-opt seccomp: %w", err)
	}
	return compile(p)
}

func compile(p *specs.LinuxSeccomp) (*seccomp.Filter, error) {
	f, err := seccomp.Compile(p, goruntime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if f != nil && f.Notify {
		return nil, errors.New("seccomp profile: SCMP_ACT_NOTIFY needs an agent, which only the OCI face has")
	}
	return f, nil
}

// defaultFilter compiles docker's default profile, once for each set of
// capabilities: that takes longer than reading the result.
func (s *Store) defaultFilter(spec *specs.Spec, keep bool) (*seccomp.Filter, error) {
	file, err := s.filterFile(spec.Process.Capabilities.Bounding)
	if err != nil {
		return nil, err
	}
	if f := readFilter(file); f != nil {
		return f, nil
	}
	p, err := profile.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("default seccomp profile: %w", err)
	}
	f, err := compile(p)
	if err != nil {
		return nil, err
	}
	if keep {
		err = writeFilter(file, f)
	}
	return f, err
}

func (s *Store) filterFile(caps []string) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	caps = slices.Sorted(slices.Values(caps))
	key := sha256.Sum256([]byte(strings.Join(append([]string{profileVersion, goruntime.GOARCH, unix.ByteSliceToString(u.Release[:])}, caps...), "\x00")))
	return s.Root + "/seccomp/" + hex.EncodeToString(key[:12]), nil
}

// readFilter reads the flags and the program; nil if there is none that is whole.
func readFilter(file string) *seccomp.Filter {
	b, err := os.ReadFile(file)
	if err != nil || len(b) < 16 || len(b)%8 != 0 {
		return nil
	}
	ne := binary.NativeEndian
	f := &seccomp.Filter{Flags: uint(ne.Uint64(b))}
	if uint64(len(b)) != ne.Uint64(b[8:]) {
		return nil
	}
	for b = b[16:]; len(b) > 0; b = b[8:] {
		f.Program = append(f.Program, unix.SockFilter{Code: ne.Uint16(b), Jt: b[2], Jf: b[3], K: ne.Uint32(b[4:])})
	}
	return f
}

func writeFilter(file string, f *seccomp.Filter) error {
	b := f.Bytes()
	head := binary.NativeEndian.AppendUint64(nil, uint64(f.Flags))
	head = binary.NativeEndian.AppendUint64(head, uint64(16+len(b)))
	err := replaceFile(file, append(head, b...))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(file[:strings.LastIndexByte(file, '/')], 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			err = replaceFile(file, append(head, b...))
		}
	}
	if err != nil {
		return fmt.Errorf("keep the compiled seccomp profile: %w", err)
	}
	return nil
}
