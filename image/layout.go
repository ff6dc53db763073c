package image

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/berth-run/berth/coldjson"
)

// Platform chooses from an index. Empty fields mean this machine.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// architectures are those that Linux and Go know (go tool dist list): another
// word is a slip, and would else only be told as an image that is not there.
const architectures = " 386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x "

// ParsePlatform reads os/arch[/variant], or an architecture alone.
func ParsePlatform(s string) (Platform, error) {
	if s == "" {
		return Platform{}, nil
	}
	f := strings.Split(s, "/")
	if len(f) == 1 {
		f = []string{"linux", s}
	}
	if len(f) > 3 || f[0] != "linux" {
		return Platform{}, fmt.Errorf("platform %q: want linux/ARCH[/VARIANT]", brief(s))
	}
	p := Platform{OS: "linux", Architecture: normalArch(f[1])}
	if len(f) == 3 {
		p.Variant = f[2]
	}
	if p.Architecture == "" || !strings.Contains(architectures, " "+p.Architecture+" ") {
		return Platform{}, fmt.Errorf("platform %q: unknown architecture: want one of%s", brief(s), strings.TrimRight(architectures, " "))
	}
	return p, nil
}

// Matches tells whether an image of this platform is what p asks for.
func (p Platform) Matches(img *Image) bool {
	return (p.OS == "" || p.OS == img.OS) && (p.Architecture == "" || p.Architecture == img.Architecture) &&
		(p.Variant == "" || img.Variant == "" || p.Variant == img.Variant)
}

func normalArch(a string) string {
	switch a {
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return a
}

func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

func (p Platform) orHost() Platform {
	if p.OS == "" {
		p.OS = "linux"
	}
	if p.Architecture == "" {
		p.Architecture = runtime.GOARCH
	}
	return p
}

// Descriptor is image-spec's: it names one blob.
type Descriptor struct {
	Blob
	Platform    *Platform         `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

// document is a manifest or an index: their fields do not clash, and media
// types are missing in the wild.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *Blob        `json:"config"`
	Layers        []Blob       `json:"layers"`
	Manifests     []Descriptor `json:"manifests"`
}

// ParseManifest reads a manifest (the second result is nil) or an index (the first is).
func ParseManifest(b []byte) (*Manifest, *Blob, []Descriptor, error) {
	var d document
	if len(b) > maxManifest {
		return nil, nil, nil, fmt.Errorf("read manifest: size %d is over the limit of %d bytes", len(b), maxManifest)
	}
	if err := coldjson.Unmarshal(b, &d); err != nil {
		return nil, nil, nil, fmt.Errorf("read manifest: %w", err)
	}
	if d.SchemaVersion != 2 {
		return nil, nil, nil, fmt.Errorf("read manifest: schemaVersion is %d, want 2", d.SchemaVersion)
	}
	switch d.MediaType {
	case "", "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json":
	default:
		return nil, nil, nil, fmt.Errorf("read manifest: unsupported media type %q", brief(d.MediaType))
	}
	if d.Config == nil {
		if d.Manifests == nil {
			return nil, nil, nil, errors.New("read manifest: neither a config nor manifests")
		}
		return nil, nil, d.Manifests, nil
	}
	if d.Manifests != nil {
		return nil, nil, nil, errors.New("read manifest: both a config and manifests")
	}
	if err := checkBlob("config", *d.Config, maxConfig); err != nil {
		return nil, nil, nil, fmt.Errorf("read manifest: %w", err)
	}
	if len(d.Layers) > MaxLayers {
		return nil, nil, nil, fmt.Errorf("read manifest: %d layers, overlayfs takes at most %d of an image", len(d.Layers), MaxLayers)
	}
	for i, l := range d.Layers {
		if err := checkBlob(fmt.Sprintf("layer %d", i+1), l, -1); err != nil {
			return nil, nil, nil, fmt.Errorf("read manifest: %w", err)
		}
		if err := checkMediaType(l.MediaType); err != nil {
			return nil, nil, nil, fmt.Errorf("read manifest: layer %d: %w", i+1, err)
		}
	}
	return &Manifest{Digest: Digest(b), Layers: d.Layers}, d.Config, nil, nil
}

// checkBlob checks a descriptor; limit -1 means any size.
func checkBlob(what string, b Blob, limit int64) error {
	if err := CheckDigest(b.Digest); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if b.Size < 0 || limit >= 0 && b.Size > limit {
		return fmt.Errorf("%s: size %d is out of range", what, b.Size)
	}
	return nil
}

// Choose takes the manifest for p from an index. Attestations are of no platform.
func Choose(list []Descriptor, p Platform) (Descriptor, error) {
	p = p.orHost()
	var found *Descriptor
	var others []string
	for i := range list {
		d := &list[i]
		if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			continue
		}
		if d.Platform == nil { // an index may leave it out; then the configuration decides
			if found == nil {
				found = d
			}
			continue
		}
		if d.Platform.OS != p.OS || d.Platform.Architecture != p.Architecture {
			others = append(others, d.Platform.String())
			continue
		}
		if d.Platform.Variant == p.Variant {
			return *d, nil
		}
		if p.Variant != "" {
			others = append(others, d.Platform.String())
			continue
		}
		if found == nil || found.Platform == nil {
			found = d
		}
	}
	if found == nil {
		has := "none"
		if len(others) > 0 {
			has = brief(strings.Join(others, " "))
		}
		return Descriptor{}, fmt.Errorf("no image for %s in the index; it has %s", p, has)
	}
	return *found, nil
}

// blob reads a small blob of a layout and holds it against its descriptor.
func layoutBlob(src source, what string, b Blob, limit int64) ([]byte, error) {
	if err := checkBlob(what, b, limit); err != nil {
		return nil, err
	}
	raw, err := readAll(src, blobPath(b.Digest), limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if int64(len(raw)) != b.Size {
		return nil, fmt.Errorf("%s: size is %d bytes, its descriptor says %d", what, len(raw), b.Size)
	}
	return raw, Verify(what, raw, b.Digest)
}

// blobPath is where a layout keeps a checked digest: image-layout.md.
func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

// layoutImage is one image that a layout or archive offers.
type layoutImage struct {
	desc  Descriptor
	names []string // its tags there, as they stand
}

// layoutIndex reads index.json.
func layoutIndex(src source) ([]layoutImage, error) {
	if _, err := readAll(src, "oci-layout", maxManifest); err != nil {
		return nil, fmt.Errorf("not an OCI image layout: %w", err)
	}
	raw, err := readAll(src, "index.json", maxManifest)
	if err != nil {
		return nil, err
	}
	var d document
	if err := coldjson.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("read index.json: %w", err)
	}
	if d.SchemaVersion != 2 {
		return nil, fmt.Errorf("read index.json: schemaVersion is %d, want 2", d.SchemaVersion)
	}
	var out []layoutImage
	for _, m := range d.Manifests {
		var names []string
		for _, k := range [...]string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
			if n := m.Annotations[k]; n != "" {
				names = append(names, n)
			}
		}
		out = append(out, layoutImage{m, names})
	}
	return out, nil
}

// manifest follows a descriptor through indexes to a manifest.
func layoutManifest(src source, d Descriptor, p Platform) (*Manifest, *Blob, error) {
	for range maxIndexDepth {
		raw, err := layoutBlob(src, "manifest "+shortDigest(d.Digest), d.Blob, maxManifest)
		if err != nil {
			return nil, nil, err
		}
		m, config, list, err := ParseManifest(raw)
		if err != nil {
			return nil, nil, err
		}
		if m != nil {
			return m, config, nil
		}
		if d, err = Choose(list, p); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("indexes are nested more than %d deep", maxIndexDepth)
}
