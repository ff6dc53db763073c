package container

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-run/berth/image"
)

// Identity is who the process is: ids and the home of the image's passwd.
type Identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, without GID
	Home     string
}

// userFiles are the image's passwd(5) and group(5); lines that cannot be read are skipped.
type userFiles struct{ passwd, group string }

// maxUserFile bounds what an image can make us read.
const maxUserFile = 4 << 20

func readUserFiles(v *image.View) (userFiles, error) {
	var u userFiles
	var err error
	if u.passwd, err = v.ReadFile("etc/passwd", maxUserFile); err == nil {
		u.group, err = v.ReadFile("etc/group", maxUserFile)
	}
	return u, err
}

// maxID is the greatest uid and gid, as docker and runc have it. 2^32-1 would
// be worse than wrong: to setresuid(2) it means "leave it as it is", root.
const maxID = 1<<31 - 1

// isNumber tells that s is an id and not a name: digits only, of any size.
func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if isNumber(s) && (err != nil || n > maxID) {
		return 0, fmt.Errorf("id %s: ids must be in range 0-%d", s, maxID)
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return uint32(n), nil
}

// identity resolves docker's USER syntax user[:group], each a name or a
// number. A number need not be in the files; a name must. With a group given
// there are no supplementary groups but the added ones.
func (u userFiles) identity(spec string, add []string) (Identity, error) {
	user, group, _ := strings.Cut(spec, ":")
	name, id, err := u.user(first(user, "0"))
	if err != nil {
		return id, fmt.Errorf("user %s: %w", user, err)
	}
	if group != "" {
		id.GID, err = u.gid(group)
	} else if name != "" {
		id.Groups, err = u.groupsOf(name, id.GID)
	}
	for _, g := range add {
		if err != nil {
			break
		}
		var gid uint32
		gid, err = u.gid(g)
		id.Groups = append(id.Groups, gid)
	}
	return id, err
}

// user finds a name in passwd, or takes a number, to which passwd adds only
// group, home and the name that group(5) knows. A number is never looked for
// among the names: the file is the image's, and a user named 1000 with uid 0
// would make root of who asked for 1000.
func (u userFiles) user(user string) (name string, id Identity, err error) {
	id.Home = "/"
	var line []string
	if isNumber(user) {
		if id.UID, err = parseID(user); err != nil {
			return "", id, err
		}
		line = find(u.passwd, 7, func(f []string) bool {
			n, err := parseID(f[2])
			return err == nil && n == id.UID
		})
		switch {
		case line == nil && id.UID == 0:
			line = []string{"root", "", "0", "0", "", "/root", ""}
		case line == nil:
			return "", id, nil
		}
	} else if line = find(u.passwd, 7, func(f []string) bool { return f[0] == user }); line == nil {
		return "", id, errors.New("unable to find it: no matching entries in the image's passwd file")
	}
	if id.UID, err = parseID(line[2]); err == nil {
		id.GID, err = parseID(line[3])
	}
	if err != nil {
		return "", id, fmt.Errorf("the image's passwd file: %w", err)
	}
	id.Home = first(line[5], id.Home)
	return line[0], id, nil
}

// gid finds a group by name, or takes a number as it is.
func (u userFiles) gid(group string) (uint32, error) {
	num := group
	if !isNumber(group) {
		line := find(u.group, 3, func(f []string) bool { return f[0] == group })
		if line == nil {
			return 0, fmt.Errorf("group %s: unable to find it: no matching entries in the image's group file", group)
		}
		num = line[2]
	}
	n, err := parseID(num)
	if err != nil {
		return 0, fmt.Errorf("group %s: %w", group, err)
	}
	return n, nil
}

// groupsOf lists the groups that have the user as a member.
func (u userFiles) groupsOf(user string, primary uint32) (gids []uint32, err error) {
	find(u.group, 4, func(f []string) bool {
		if !isNumber(f[2]) || !slices.Contains(strings.Split(f[3], ","), user) {
			return false
		}
		n, perr := parseID(f[2])
		if perr != nil {
			err = fmt.Errorf("group %s of user %s: the image's group file: %w", f[0], user, perr)
			return true
		}
		if n != primary {
			gids = append(gids, n)
		}
		return false
	})
	return gids, err
}

// find returns the fields of the first line for which ok is true; lines with
// fewer than n fields are passed over, missing last fields of passwd forgiven.
func find(file string, n int, ok func([]string) bool) []string {
	for line := range strings.Lines(file) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' || line[0] == '+' || line[0] == '-' {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) < min(n, 4) && len(f) < n {
			continue
		}
		for len(f) < n {
			f = append(f, "")
		}
		if ok(f) {
			return f
		}
	}
	return nil
}
