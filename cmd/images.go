package cmd

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/image"
)

func (a *app) imagesCommand() *cli.Command {
	return &cli.Command{
		Usage: "list images", ArgsUsage: "[REPOSITORY[:TAG]]",
		Flags: []cli.Flag{
			yes("all,a", "for docker's sake: berth has no hidden images"),
			yes("digests", "show the digests of manifests"),
			list("filter,f", "filter", "only those that fit (reference=…, label=…, dangling=true)"),
			text("format", "string", "table, json, or a Go template"),
			yes("no-trunc", "do not shorten"),
			yes("quiet,q", "ids only"),
		},
		Action: a.listImages,
	}
}

// imageRow is what --format of images sees; names are docker's.
type imageRow struct{ Containers, CreatedAt, CreatedSince, Digest, ID, Repository, Size, Tag string }

func (a *app) listImages(c *cli.Context) error {
	f, err := parseFilters(c.StringSlice("filter"), "before", "dangling", "label", "reference", "since")
	if err != nil {
		return err
	}
	if err := a.open(); err != nil {
		return err
	}
	all, err := a.images.List()
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(x, y *image.Image) int { return y.Created.Compare(x.Created) })
	p := imageFilter{f: f}
	if err := p.times(a.images); err != nil {
		return err
	}
	want, err := wanted(c.Args().First())
	if err != nil {
		return err
	}
	var rows []imageRow
	for _, img := range all {
		if p.fits(img) {
			rows = append(rows, imageRows(img, want, f, c.Bool("no-trunc"))...)
		}
	}
	format, standard := c.String("format"), "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	if c.Bool("digests") {
		standard = strings.Replace(standard, "{{.Tag}}", "{{.Tag}}\t{{.Digest}}", 1)
	}
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	header := imageRow{"CONTAINERS", "CREATED AT", "CREATED", "DIGEST", "IMAGE ID", "REPOSITORY", "SIZE", "TAG"}
	return show(a.out, format, standard, header, rows)
}

// imageFilter decides which images are listed.
type imageFilter struct {
	f             filters
	before, since time.Time
}

func (p *imageFilter) times(s *image.Store) error {
	for key, t := range map[string]*time.Time{"before": &p.before, "since": &p.since} {
		for _, ref := range p.f[key] {
			img, err := s.Get(ref)
			if err != nil {
				return err
			}
			*t = img.Created
		}
	}
	return nil
}

func (p *imageFilter) fits(img *image.Image) bool {
	return (p.before.IsZero() || img.Created.Before(p.before)) && (p.since.IsZero() || img.Created.After(p.since)) &&
		p.f.labels(img.Config.Labels) &&
		p.f.any("dangling", func(v string) bool { return (v == "true" || v == "1") == (len(img.Names) == 0) })
}

// wanted tells whether a name is the one that was given on the command line:
// a repository, with or without a tag, written in any form.
func wanted(arg string) (func(image.Reference) bool, error) {
	if arg == "" {
		return func(image.Reference) bool { return true }, nil
	}
	if strings.ContainsAny(arg, "*?[") {
		f := filters{"reference": {arg}}
		return func(r image.Reference) bool { return f.reference(repository(r), r.Tag) }, nil
	}
	want, err := image.Parse(arg)
	if err != nil {
		return nil, err
	}
	tagged := strings.LastIndexByte(arg, ':') > strings.LastIndexByte(arg, '/')
	return func(r image.Reference) bool { return r.Name() == want.Name() && (!tagged || r.Tag == want.Tag) }, nil
}

// repository is the familiar name without a tag: busybox, localhost/x.
func repository(r image.Reference) string {
	r.Tag, r.Digest = "", ""
	return strings.TrimSuffix(r.Familiar(), ":")
}

// imageRows is one row for each name of an image, or one without a name.
func imageRows(img *image.Image, want func(image.Reference) bool, f filters, whole bool) []imageRow {
	row := imageRow{
		Containers: "N/A", CreatedAt: img.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), CreatedSince: ago(img.Created),
		Digest: "<none>", ID: img.ID, Repository: "<none>", Size: humanSize(img.Size, 3), Tag: "<none>",
	}
	if !whole {
		row.ID = short(img.ID)
	}
	var rows []imageRow
	add := func(name string) {
		r, err := image.Parse(name)
		if err != nil || !want(r) || !f.reference(repository(r), r.Tag) {
			return
		}
		row := row
		row.Repository = repository(r)
		if row.Tag = r.Tag; row.Tag == "" {
			row.Tag = "<none>"
		}
		for _, d := range img.Digests {
			if repo, digest, _ := strings.Cut(d, "@"); repo == r.Name() {
				row.Digest = digest
			}
		}
		rows = append(rows, row)
	}
	for _, n := range img.Names {
		add(n)
	}
	if len(img.Names) > 0 {
		return rows
	}
	for _, d := range img.Digests { // pulled by digest, without a tag
		add(d)
	}
	if len(img.Digests) == 0 && len(f["reference"]) == 0 && want(image.Reference{}) {
		rows = append(rows, row)
	}
	return rows
}

func (a *app) tagCommand() *cli.Command {
	return &cli.Command{
		Usage: "give an image another name", ArgsUsage: "IMAGE NAME[:TAG]",
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			return a.images.Tag(c.Args().Get(0), c.Args().Get(1))
		},
	}
}

func (a *app) rmiCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove one or more images", ArgsUsage: "IMAGE [IMAGE...]",
		Flags: []cli.Flag{
			yes("force,f", "all names of an id; take the name from an image that a container uses"),
			yes("no-prune", "for docker's sake: berth has no parents to remove"),
		},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			return a.eachName(c.Args().Slice(), func(ref string) error { return a.removeImage(ref, c.Bool("force")) })
		},
	}
}

func (a *app) removeImage(ref string, force bool) error {
	done, err := a.images.Remove(ref, a.store.ImageInUse)
	if force && err != nil {
		img, found := a.images.Get(ref)
		if found != nil {
			return err
		}
		if a.store.ImageInUse(img.ID) {
			done, err = a.images.Untag(ref)
		} else if len(img.Names) > 1 {
			done, err = a.removeNames(img.Names)
		}
	}
	for _, line := range done {
		if name, ok := strings.CutPrefix(line, "Untagged: "); ok {
			line = "Untagged: " + familiar([]string{name})[0]
		}
		fmt.Fprintln(a.out, line)
	}
	return err
}

func (a *app) removeNames(names []string) (done []string, err error) {
	for _, n := range names {
		lines, err := a.images.Remove(n, a.store.ImageInUse)
		done = append(done, lines...)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
