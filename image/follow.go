package image

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A walker goes from directory to directory by name.
type walker interface {
	// down goes into name. If that is a symbolic link the walker stays where it
	// is, and returns the target.
	down(name string) (link string, err error)
	// up goes to the parent; the root's is the root.
	up() error
	// restart goes to the root.
	restart() error
}

// follow lets w go along comps. Links are followed here and not by the kernel:
// an absolute one starts again at the layers' root, and ".." ends there, so that
// none leads out of an image (path_resolution(7)).
func follow(w walker, comps []string) error {
	todo := comps
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if err := w.up(); err != nil {
				return err
			}
			continue
		}
		link, err := w.down(name)
		if err != nil {
			return err
		}
		if link == "" {
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%q: %w", brief(name), unix.ELOOP)
		}
		if link[0] == '/' {
			if err := w.restart(); err != nil {
				return err
			}
		}
		todo = append(strings.Split(link, "/"), todo...)
	}
	return nil
}

// A pathWalk makes nothing and holds nothing open: it finds out the path that
// is left when all links have been followed.
type pathWalk struct {
	look  func(path string) (unix.Stat_t, tree, error)
	files bool // the path may end in something that is no directory

	dir []string
	end bool   // it has
	at  *found // what is there; nil after up and restart
}

type found struct {
	st unix.Stat_t
	in tree
}

func (p *pathWalk) down(name string) (string, error) {
	if p.end {
		return "", unix.ENOTDIR
	}
	path := joinPath(p.dir, name)
	st, in, err := p.look(path)
	switch {
	case err != nil:
		return "", err
	case isLink(&st):
		return in.readlink(path)
	case !isDir(&st):
		if !p.files {
			return "", unix.ENOTDIR
		}
		p.end = true
	}
	p.dir, p.at = append(p.dir[:len(p.dir):len(p.dir)], name), &found{st, in}
	return "", nil
}

func (p *pathWalk) up() error {
	if p.end {
		return unix.ENOTDIR
	}
	p.dir, p.at = p.dir[:max(0, len(p.dir)-1)], nil
	return nil
}

func (p *pathWalk) restart() error {
	p.dir, p.at = nil, nil
	return nil
}

func joinPath(dir []string, name string) string {
	return strings.Join(append(dir[:len(dir):len(dir)], name), "/")
}
