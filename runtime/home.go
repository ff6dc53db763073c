package runtime

import (
	"bufio"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setHome puts the environment in order: of a name that occurs twice the last
// value counts, and HOME is that of the user in the container's /etc/passwd where it
// is not given.
func setHome(p *specs.Process, root string) {
	seen := map[string]bool{}
	var env []string
	noHome := false
	for _, e := range slices.Backward(p.Env) {
		name, value, ok := strings.Cut(e, "=")
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		if name == "HOME" && value == "" {
			noHome = true
			continue
		}
		env = append(env, e)
	}
	slices.Reverse(env)
	if noHome || !seen["HOME"] {
		env = append(env, "HOME="+homeOf(root, p.User.UID))
	}
	p.Env = env
}

const maxPasswd = 1 << 20 // bytes of /etc/passwd that are looked at

// homeOf reads the container's /etc/passwd: "/" for a user it does not have.
func homeOf(root string, uid uint32) string {
	f, err := openInRoot(root, "etc/passwd")
	if err != nil {
		return "/"
	}
	defer f.Close()
	sc := bufio.NewScanner(io.LimitReader(f, maxPasswd))
	for sc.Scan() {
		fields := strings.Split(sc.Text(), ":")
		if len(fields) >= 6 && fields[2] == strconv.FormatUint(uint64(uid), 10) && fields[5] != "" {
			return fields[5]
		}
	}
	return "/"
}

// openInRoot opens a regular file of a root that is not to be trusted.
func openInRoot(root, name string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(dir, name, &how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path.Join(root, name), Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: path.Join(root, name), Err: unix.EINVAL}
	}
	return f, nil
}
