package cmd

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/image"
)

func imageCommands() []entry {
	return append(pick("history import load ls=images pull push rm=rmi save tag"),
		entry{name: "inspect", about: "show all there is to know of images", min: 1, max: -1,
			build: func(a *app) *cli.Command {
				return a.inspectOnly("image", "show all there is to know of images")
			}},
		entry{name: "prune", about: "remove images without a name", build: (*app).imagePruneCommand})
}

// imageConfig is what inspect takes from the image's own configuration, beside
// what package image has read of it.
type imageConfig struct {
	Author  string
	Comment string
	Config  json.RawMessage
	History []struct {
		Created    time.Time
		CreatedBy  string `json:"created_by"`
		Comment    string
		EmptyLayer bool `json:"empty_layer"`
	}
}

// imageInspect is docker's JSON of an image (API v1.44, GET /images/NAME/json).
type imageInspect struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      time.Time
	Author       string
	Config       json.RawMessage
	Architecture string
	Variant      string `json:",omitempty"`
	OS           string `json:"Os"`
	Size         int64
	GraphDriver  struct {
		Name string
		Data map[string]string
	}
	RootFS struct {
		Type   string
		Layers []string
	}
}

func (a *app) inspectImage(ref string) (any, error) {
	img, err := a.images.Get(ref)
	if err != nil {
		return nil, err
	}
	var c imageConfig
	if err := json.Unmarshal(img.Raw, &c); err != nil {
		return nil, fmt.Errorf("read the configuration of image %s: %w", ref, err)
	}
	if len(c.Config) == 0 {
		c.Config = json.RawMessage("{}")
	}
	in := &imageInspect{
		ID: img.ID, RepoTags: familiar(img.Names), RepoDigests: familiar(img.Digests), Comment: c.Comment, Author: c.Author,
		Created: img.Created, Config: c.Config, Architecture: img.Architecture, Variant: img.Variant, OS: img.OS, Size: img.Size,
	}
	in.RootFS.Type, in.RootFS.Layers = "layers", []string{}
	in.GraphDriver.Name = "overlay2"
	lower := []string{}
	for _, l := range img.Layers {
		in.RootFS.Layers = append(in.RootFS.Layers, l.DiffID)
		lower = append([]string{a.images.Root() + "/" + l.Dir}, lower...)
	}
	in.GraphDriver.Data = map[string]string{"LowerDir": strings.Join(lower, ":")}
	return in, nil
}

// familiar shortens names as docker shows them.
func familiar(names []string) []string {
	out := []string{}
	for _, n := range names {
		if r, err := image.Parse(n); err == nil {
			n = r.Familiar()
		}
		out = append(out, n)
	}
	return out
}

func (a *app) historyCommand() *cli.Command {
	return &cli.Command{
		Usage: "show the layers of an image", ArgsUsage: "IMAGE",
		Flags: []cli.Flag{
			text("format", "string", "table, json, or a Go template"),
			yes("no-trunc", "do not shorten"),
			yes("quiet,q", "ids only"),
		},
		Action: a.history,
	}
}

func (a *app) history(c *cli.Context) error {
	if err := a.open(); err != nil {
		return err
	}
	ref := c.Args().First()
	img, err := a.images.Get(ref)
	if err != nil {
		return err
	}
	var conf imageConfig
	if err := json.Unmarshal(img.Raw, &conf); err != nil {
		return fmt.Errorf("read the configuration of image %s: %w", ref, err)
	}
	type row struct{ Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string }
	var rows []row
	layer := len(img.Layers)
	for i := len(conf.History) - 1; i >= 0; i-- {
		h := conf.History[i]
		r := row{Comment: h.Comment, CreatedAt: h.Created.Local().Format(time.RFC3339), CreatedBy: h.CreatedBy,
			CreatedSince: ago(h.Created), ID: "<missing>", Size: "N/A"}
		if h.EmptyLayer {
			r.Size = "0B"
		} else if layer--; layer >= 0 {
			if info, err := a.images.Info(img.Layers[layer]); err == nil {
				r.Size = humanSize(info.Size, 3)
			}
		}
		if i == len(conf.History)-1 {
			if r.ID = img.ID; !c.Bool("no-trunc") {
				r.ID = short(img.ID)
			}
		}
		if !c.Bool("no-trunc") {
			r.CreatedBy = ellipsis(r.CreatedBy, 45)
		}
		rows = append(rows, r)
	}
	format := c.String("format")
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	return show(a.out, format, "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
		row{"COMMENT", "CREATED AT", "CREATED BY", "CREATED", "IMAGE", "SIZE"}, rows)
}
