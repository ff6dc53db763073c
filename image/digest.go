package image

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// CheckDigest tells whether s is a digest of a known algorithm
// (image-spec, descriptor.md, "Registered algorithms"). It must be called
// before a digest from an image becomes part of a path.
func CheckDigest(s string) error {
	algo, hx, _ := strings.Cut(s, ":")
	size := 0
	switch algo {
	case "sha256":
		size = 2 * sha256.Size
	case "sha512":
		size = 2 * sha512.Size
	default:
		return fmt.Errorf("digest %q: unsupported algorithm", brief(s))
	}
	if len(hx) != size || !isHex(hx) {
		return fmt.Errorf("digest %q: want %d lower-case hex digits", brief(s), size)
	}
	return nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// brief cuts text from an image down to what fits in a message.
func brief(s string) string {
	if len(s) > 120 {
		return s[:100] + "…"
	}
	return s
}

// shortDigest is what messages show: the algorithm is left out.
func shortDigest(d string) string {
	_, hx, ok := strings.Cut(d, ":")
	if !ok {
		hx = d
	}
	return hx[:min(12, len(hx))]
}

// newHash returns the hash of a checked digest's algorithm.
func newHash(digest string) hash.Hash {
	if strings.HasPrefix(digest, "sha512:") {
		return sha512.New()
	}
	return sha256.New()
}

// digestOf names what h has seen, in the algorithm of like.
func digestOf(h hash.Hash, like string) string {
	algo, _, _ := strings.Cut(like, ":")
	return algo + ":" + hex.EncodeToString(h.Sum(nil))
}

// Digest returns the sha256 digest of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Verify holds b against its digest.
func Verify(what string, b []byte, digest string) error {
	h := newHash(digest)
	h.Write(b)
	if got := digestOf(h, digest); got != digest {
		return fmt.Errorf("%s: digest is %s, want %s", what, got, digest)
	}
	return nil
}

// chainIDs names each layer together with all below it: image-spec, config.md, "Layer ChainID".
func chainIDs(diffIDs []string) []string {
	out := make([]string, len(diffIDs))
	for i, d := range diffIDs {
		if i > 0 {
			d = Digest([]byte(out[i-1] + " " + d))
		}
		out[i] = d
	}
	return out
}
