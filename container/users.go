package container

import (
	"fmt"
	"strconv"
	"strings"
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

func readUserFiles(m *merged) (userFiles, error) {
	var u userFiles
	var err error
	if u.passwd, err = m.readFile("etc/passwd", maxUserFile); err == nil {
		u.group, err = m.readFile("etc/group", maxUserFile)
	}
	return u, err
}

// identity resolves docker's USER syntax user[:group], each a name or a
// number. A number need not be in the files; a name must. With a group given
// there are no supplementary groups but the added ones.
func (u userFiles) identity(spec string, add []string) (Identity, error) {
	user, group, hasGroup := strings.Cut(spec, ":")
	if user == "" {
		user = "0"
	}
	id := Identity{Home: "/"}
	name := ""
	line := find(u.passwd, 7, func(f []string) bool { return f[0] == user })
	num, numErr := strconv.ParseUint(user, 10, 32)
	if line == nil && numErr == nil {
		line = find(u.passwd, 7, func(f []string) bool { return f[2] == user })
	}
	switch {
	case line != nil:
		uid, err1 := strconv.ParseUint(line[2], 10, 32)
		gid, err2 := strconv.ParseUint(line[3], 10, 32)
		if err1 != nil || err2 != nil {
			return id, fmt.Errorf("user %s: the image's /etc/passwd has no numbers for it", user)
		}
		name, id.UID, id.GID = line[0], uint32(uid), uint32(gid)
		if line[5] != "" {
			id.Home = line[5]
		}
	case numErr == nil && num <= 1<<31-1:
		id.UID = uint32(num)
		if num == 0 {
			name, id.Home = "root", "/root"
		}
	case numErr == nil:
		return id, fmt.Errorf("user %s: uids must be in range 0-%d", user, 1<<31-1)
	default:
		return id, fmt.Errorf("unable to find user %s: no matching entries in the image's passwd file", user)
	}
	if hasGroup && group != "" {
		gid, err := u.gid(group)
		if err != nil {
			return id, err
		}
		id.GID = gid
	} else if name != "" {
		id.Groups = u.groupsOf(name, id.GID)
	}
	for _, g := range add {
		gid, err := u.gid(g)
		if err != nil {
			return id, err
		}
		id.Groups = append(id.Groups, gid)
	}
	return id, nil
}

func (u userFiles) gid(group string) (uint32, error) {
	line := find(u.group, 3, func(f []string) bool { return f[0] == group })
	if line != nil {
		if n, err := strconv.ParseUint(line[2], 10, 32); err == nil {
			return uint32(n), nil
		}
	}
	n, err := strconv.ParseUint(group, 10, 32)
	if err != nil || n > 1<<31-1 {
		return 0, fmt.Errorf("unable to find group %s: no matching entries in the image's group file", group)
	}
	return uint32(n), nil
}

func (u userFiles) groupsOf(user string, primary uint32) []uint32 {
	var gids []uint32
	find(u.group, 4, func(f []string) bool {
		for m := range strings.SplitSeq(f[3], ",") {
			if m != user {
				continue
			}
			if n, err := strconv.ParseUint(f[2], 10, 32); err == nil && uint32(n) != primary {
				gids = append(gids, uint32(n))
			}
			break
		}
		return false
	})
	return gids
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
