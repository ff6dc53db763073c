package image

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/berth-run/berth/coldjson"
)

// Config is what an image says about running it: the "config" object of an
// OCI image configuration, in docker's spelling (image-spec, config.md).
type Config struct {
	User         string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	Shell        []string            `json:",omitempty"`
	Healthcheck  *Healthcheck        `json:",omitempty"`
}

// Healthcheck is docker's; durations are in nanoseconds in JSON.
type Healthcheck struct {
	Test          []string      `json:",omitempty"` // ["NONE"], ["CMD", …] or ["CMD-SHELL", line]
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// Image is one image of the store.
type Image struct {
	ID           string   // digest of the configuration: "sha256:…"
	Names        []string // complete names: docker.io/library/busybox:latest
	Digests      []string // names with a digest, from pulls: docker.io/library/busybox@sha256:…
	Config       Config
	Created      time.Time
	Architecture string
	OS           string
	Variant      string
	Layers       []Layer         // lowest first
	Size         int64           // bytes of all layers as tar
	Manifest     string          // its digest; "" for docker archives
	Raw          json.RawMessage // the whole configuration, as it came
}

// Layer is one unpacked layer.
type Layer struct {
	DiffID string // digest of its tar
	Dir    string // relative to the store's root: layers/HEX/fs
}

// ChainID names the layers together; "" for an image without layers.
func (i *Image) ChainID() string {
	ids := make([]string, len(i.Layers))
	for k, l := range i.Layers {
		ids[k] = l.DiffID
	}
	if len(ids) == 0 {
		return ""
	}
	return chainIDs(ids)[len(ids)-1]
}

// parseConfig reads a configuration and refuses what cannot become an image here.
func parseConfig(raw []byte) (*Image, []string, error) {
	var c struct {
		Created      string  `json:"created"`
		Architecture string  `json:"architecture"`
		OS           string  `json:"os"`
		Variant      string  `json:"variant"`
		Config       *Config `json:"config"`
		RootFS       struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if len(raw) > maxConfig {
		return nil, nil, fmt.Errorf("read image configuration: size %d is over the limit of %d bytes", len(raw), maxConfig)
	}
	if err := coldjson.Unmarshal(raw, &c); err != nil {
		return nil, nil, fmt.Errorf("read image configuration: %w", err)
	}
	switch {
	case c.OS != "" && c.OS != "linux":
		return nil, nil, fmt.Errorf("read image configuration: image is for %s, want linux", brief(c.OS))
	case c.RootFS.Type != "layers":
		return nil, nil, fmt.Errorf("read image configuration: rootfs.type is %q, want \"layers\"", brief(c.RootFS.Type))
	case len(c.RootFS.DiffIDs) > MaxLayers:
		return nil, nil, fmt.Errorf("read image configuration: %d layers, overlayfs takes at most %d of an image", len(c.RootFS.DiffIDs), MaxLayers)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d); err != nil {
			return nil, nil, fmt.Errorf("read image configuration: diff_id of layer %d: %w", i+1, err)
		}
	}
	img := &Image{ID: Digest(raw), Architecture: c.Architecture, OS: c.OS, Variant: c.Variant, Raw: raw}
	if c.Config != nil {
		img.Config = *c.Config
	}
	// A bad date makes an image no less usable: docker shows it as unknown.
	img.Created, _ = time.Parse(time.RFC3339Nano, c.Created)
	return img, c.RootFS.DiffIDs, nil
}
