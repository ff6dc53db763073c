package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
	"github.com/berth-run/berth/image"
)

func (a *app) inspectCommand() *cli.Command {
	return &cli.Command{
		Usage: "show all there is to know of containers, images, volumes or networks", ArgsUsage: "NAME|ID [NAME|ID...]",
		Flags: []cli.Flag{
			text("format,f", "string", "json, or a Go template"),
			yes("size,s", "also how much the container has written"),
			text("type", "string", "look only for: container, image, volume, network"),
		},
		Action: func(c *cli.Context) error {
			r := &flagReader{c: c}
			kind := r.oneOf("type", "container", "image", "volume", "network")
			if r.err != nil {
				return r.err
			}
			return a.inspect(c.Args().Slice(), c.String("format"), a.finder(kind, c.Bool("size")))
		},
	}
}

// inspectOnly is `image inspect` and its like.
func (a *app) inspectOnly(kind, about string) *cli.Command {
	return &cli.Command{
		Usage: about, ArgsUsage: "NAME [NAME...]",
		Flags: []cli.Flag{text("format,f", "string", "json, or a Go template")},
		Action: func(c *cli.Context) error {
			return a.inspect(c.Args().Slice(), c.String("format"), a.finder(kind, false))
		},
	}
}

// finder looks a name up among the things of one kind, or of all: containers
// first, as docker does.
func (a *app) finder(kind string, size bool) func(name string) (any, error) {
	type lookup struct {
		kind string
		find func(string) (any, error)
		none error
	}
	all := []lookup{
		{"container", func(n string) (any, error) { return a.inspectContainer(n, size) }, container.ErrNotFound},
		{"image", a.inspectImage, image.ErrNotFound},
		{"volume", func(n string) (any, error) { return a.store.Volume(n) }, container.ErrNoVolume},
		{"network", a.inspectNetwork, errNoNetwork},
	}
	return func(name string) (any, error) {
		var none error
		for _, l := range all {
			if kind != "" && l.kind != kind {
				continue
			}
			v, err := l.find(name)
			if err == nil {
				return v, nil
			}
			if none = err; !errors.Is(err, l.none) && !errors.Is(err, image.ErrReference) {
				return nil, err
			}
		}
		if kind == "" {
			return nil, fail("no such object: "+name, "list what there is: berth ps -a, berth images, berth volume ls")
		}
		return nil, none
	}
}

// sized is a container with what `inspect -s` adds.
type sized struct {
	*container.Inspect
	SizeRw, SizeRootFs int64
}

func (a *app) inspectContainer(name string, size bool) (any, error) {
	c, err := a.store.Lookup(name)
	if err != nil {
		return nil, err
	}
	in := c.Inspect()
	if !size {
		return in, nil
	}
	s := sized{in, a.written(c), 0}
	if img, err := a.images.Get(c.ImageID); err == nil {
		s.SizeRootFs = s.SizeRw + img.Size
	}
	return s, nil
}

// inspect prints what was found, and then what was not.
func (a *app) inspect(names []string, format string, find func(string) (any, error)) error {
	if err := a.open(); err != nil {
		return err
	}
	found := []any{}
	var errs []error
	for _, n := range names {
		v, err := find(n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, v)
	}
	var b bytes.Buffer
	err := printObjects(&b, format, found)
	if err == nil {
		_, err = a.out.Write(b.Bytes())
	}
	if err != nil {
		return err
	}
	if len(errs) == 1 {
		return errs[0]
	}
	code := 0
	for _, err := range errs {
		code = a.report(err)
	}
	return status(code)
}

// printObjects prints a JSON array, or each object through a template. The
// template sees the JSON names ({{.Id}}), and Go's where those do not fit.
func printObjects(b *bytes.Buffer, format string, objects []any) error {
	if format == "" || format == "json" {
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		if format == "" {
			enc.SetIndent("", "    ")
		}
		return enc.Encode(objects)
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, o := range objects {
		generic, err := generic(o)
		if err != nil {
			return err
		}
		at := b.Len()
		if err := t.Execute(b, generic); err != nil {
			b.Truncate(at)
			if t.Execute(b, o) != nil {
				b.Truncate(at)
				return badTemplate(format, err)
			}
		}
		b.WriteByte('\n')
	}
	return nil
}

// generic is o as its JSON reads: maps, lists, strings, and numbers that
// compare with a template's whole numbers.
func generic(o any) (any, error) {
	j, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(j))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = numbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			if n, err := v.Int64(); err == nil {
				return n
			}
		}
		f, _ := v.Float64()
		return f
	}
	return v
}
