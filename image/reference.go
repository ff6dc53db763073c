package image

import (
	"errors"
	"fmt"
	"strings"
)

// A Reference is the name of an image, complete: docker.io and library, and
// the tag latest, are filled in as docker does
// (github.com/distribution/reference, normalize.go and regexp.go).
type Reference struct {
	Transport string // "" for names; "oci", "oci-archive" or "docker-archive" for files
	Path      string // of such a file, with what follows a colon: PATH[:TAG]

	Domain string // docker.io, localhost:5000
	Repo   string // library/busybox
	Tag    string // "" when there is only a digest
	Digest string // sha256:…; wins over the tag
}

// ErrReference is what errors.Is finds in the errors of Parse.
var ErrReference = errors.New("invalid reference")

// Parse reads a name as users write it.
func Parse(s string) (Reference, error) {
	for _, t := range [...]string{"oci-archive", "docker-archive", "oci"} {
		if p, ok := strings.CutPrefix(s, t+":"); ok {
			if p == "" {
				return Reference{}, fmt.Errorf("%w %q: want %s:PATH[:TAG]", ErrReference, s, t)
			}
			return Reference{Transport: t, Path: p}, nil
		}
	}
	r, err := parseName(strings.TrimPrefix(s, "docker://"))
	if err != nil {
		return Reference{}, fmt.Errorf("%w %q: %w", ErrReference, brief(s), err)
	}
	return r, nil
}

func parseName(s string) (r Reference, err error) {
	name, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if err := CheckDigest(digest); err != nil {
			return r, err
		}
		r.Digest = digest
	}
	// A colon after the last slash starts the tag; one before it, a port.
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		r.Tag, name = name[i+1:], name[:i]
		if !isTag(r.Tag) {
			return r, fmt.Errorf("tag %q: want up to 128 of A-Z a-z 0-9 _ . - and no . or - first", brief(r.Tag))
		}
	}
	switch {
	case name == "":
		return r, errors.New("empty name")
	case len(name) == 64 && isHex(name):
		return r, errors.New("64 hex digits are an id, not a name")
	}
	r.Domain, r.Repo = "docker.io", name
	if first, rest, ok := strings.Cut(name, "/"); ok && isDomain(first) {
		r.Domain, r.Repo = first, rest
		if !validDomain(first) {
			return r, fmt.Errorf("registry %q: want host[:port]", first)
		}
	}
	if r.Domain == "index.docker.io" {
		r.Domain = "docker.io"
	}
	if r.Domain == "docker.io" && !strings.Contains(r.Repo, "/") {
		r.Repo = "library/" + r.Repo
	}
	for part := range strings.SplitSeq(r.Repo, "/") {
		if !isComponent(part) {
			return r, fmt.Errorf("name %q: want lower-case letters and digits, joined by . _ __ or -, in every part", brief(name))
		}
	}
	if len(r.Domain)+1+len(r.Repo) > 255 {
		return r, errors.New("name is longer than 255 bytes")
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// isDomain tells a registry from the first part of a path.
func isDomain(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || strings.ToLower(s) != s
}

func validDomain(s string) bool {
	host, port := s, ""
	if rest, ok := strings.CutPrefix(s, "["); ok { // [::1]:5000
		addr, after, ok := strings.Cut(rest, "]")
		if !ok || addr == "" || strings.Trim(addr, "0123456789abcdefABCDEF:") != "" {
			return false
		}
		if after == "" {
			return true
		}
		host, port = "v6", strings.TrimPrefix(after, ":")
		if port == after {
			return false
		}
	} else if h, p, ok := strings.Cut(s, ":"); ok {
		host, port = h, p
	} else {
		port = "0"
	}
	if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !alnum(c) && (c < 'A' || c > 'Z') && c != '-' {
				return false
			}
		}
	}
	return true
}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// isComponent: [a-z0-9]+ joined by one of . _ __ or any number of -.
func isComponent(s string) bool {
	for i := 0; ; {
		start := i
		for i < len(s) && alnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		sep := i
		for i < len(s) && s[i] == s[sep] {
			i++
		}
		switch n := i - sep; {
		case s[sep] == '-', s[sep] == '.' && n == 1, s[sep] == '_' && n <= 2:
		default:
			return false
		}
	}
}

func isTag(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		word := alnum(c) || c >= 'A' && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return true
}

// Name is the reference without tag and digest: docker.io/library/busybox.
func (r Reference) Name() string { return r.Domain + "/" + r.Repo }

// String is the complete name. With a digest the tag is left out: it does not choose anything.
func (r Reference) String() string {
	switch {
	case r.Transport != "":
		return r.Transport + ":" + r.Path
	case r.Digest != "":
		return r.Name() + "@" + r.Digest
	}
	return r.Name() + ":" + r.Tag
}

// Familiar is the short form that docker shows: busybox:latest.
func (r Reference) Familiar() string {
	s := r.String()
	if rest, ok := strings.CutPrefix(s, "docker.io/"); ok && r.Transport == "" {
		if rest, ok := strings.CutPrefix(rest, "library/"); ok && !strings.Contains(rest, "/") {
			return rest
		}
		return rest
	}
	return s
}
