package image

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An image's record is lines of "key value", an empty line, and the
// configuration as it came. It is not JSON because every command that starts a
// container reads one: encoding/json costs 2 ms in a cold process, this 20 us.
const recordHead = "berth image 1\n"

func encodeRecord(img *Image) []byte {
	b := []byte(recordHead)
	line := func(key string, vals ...string) {
		b = append(b, key...)
		for _, v := range vals {
			b = strconv.AppendQuote(append(b, ' '), v)
		}
		b = append(b, '\n')
	}
	list := func(key string, vals []string) {
		for _, v := range vals {
			line(key, v)
		}
	}
	line("platform", img.OS, img.Architecture, img.Variant)
	line("created", img.Created.Format(time.RFC3339Nano))
	line("size", strconv.FormatInt(img.Size, 10))
	line("manifest", img.Manifest)
	for _, l := range img.Layers {
		line("layer", l.DiffID, l.Dir)
	}
	c := &img.Config
	line("user", c.User)
	line("workdir", c.WorkingDir)
	line("stopsignal", c.StopSignal)
	list("env", c.Env)
	if c.Entrypoint != nil {
		line("entrypoint", c.Entrypoint...)
	}
	if c.Cmd != nil {
		line("cmd", c.Cmd...)
	}
	if c.Shell != nil {
		line("shell", c.Shell...)
	}
	list("port", slices.Sorted(maps.Keys(c.ExposedPorts)))
	list("volume", slices.Sorted(maps.Keys(c.Volumes)))
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		line("label", k, c.Labels[k])
	}
	if h := c.Healthcheck; h != nil {
		line("health", append([]string{h.Interval.String(), h.Timeout.String(), h.StartPeriod.String(),
			h.StartInterval.String(), strconv.Itoa(h.Retries)}, h.Test...)...)
	}
	return append(append(b, '\n'), img.Raw...)
}

var errRecord = errors.New("damaged record")

// decodeRecord is the inverse; ID and Names are not in the record.
func decodeRecord(b []byte) (*Image, error) {
	head, raw, ok := bytes.Cut(b, []byte("\n\n"))
	text, ok2 := strings.CutPrefix(string(head), recordHead)
	if !ok || !ok2 {
		return nil, errRecord
	}
	img := &Image{Raw: raw}
	for l := range strings.SplitSeq(text, "\n") {
		key, vals, err := splitLine(l)
		if err == nil {
			err = img.set(key, vals)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %q: %w", errRecord, brief(l), err)
		}
	}
	return img, nil
}

// splitLine reads: key "value" "value" …
func splitLine(l string) (key string, vals []string, err error) {
	key, rest, _ := strings.Cut(l, " ")
	for rest != "" {
		q, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", nil, err
		}
		v, err := strconv.Unquote(q)
		if err != nil {
			return "", nil, err
		}
		vals, rest = append(vals, v), strings.TrimPrefix(rest[len(q):], " ")
	}
	return key, vals, nil
}

// set takes one line of a record. Unknown keys are of a later berth, and are no error.
func (img *Image) set(key string, v []string) (err error) {
	c := &img.Config
	switch key { // these hold lists, which may be empty
	case "entrypoint":
		c.Entrypoint = append([]string{}, v...)
		return nil
	case "cmd":
		c.Cmd = append([]string{}, v...)
		return nil
	case "shell":
		c.Shell = append([]string{}, v...)
		return nil
	}
	want := map[string]int{"platform": 3, "layer": 2, "label": 2, "health": 5}[key]
	if len(v) < max(1, want) {
		return errors.New("too few values")
	}
	switch key {
	case "platform":
		img.OS, img.Architecture, img.Variant = v[0], v[1], v[2]
	case "created":
		img.Created, err = time.Parse(time.RFC3339Nano, v[0])
	case "size":
		img.Size, err = strconv.ParseInt(v[0], 10, 64)
	case "manifest":
		img.Manifest = v[0]
	case "layer":
		img.Layers = append(img.Layers, Layer{DiffID: v[0], Dir: v[1]})
	case "user":
		c.User = v[0]
	case "workdir":
		c.WorkingDir = v[0]
	case "stopsignal":
		c.StopSignal = v[0]
	case "env":
		c.Env = append(c.Env, v[0])
	case "port":
		c.ExposedPorts = addKey(c.ExposedPorts, v[0])
	case "volume":
		c.Volumes = addKey(c.Volumes, v[0])
	case "label":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[v[0]] = v[1]
	case "health":
		c.Healthcheck, err = parseHealth(v)
	}
	return err
}

func parseHealth(v []string) (*Healthcheck, error) {
	h := &Healthcheck{Test: v[5:]}
	for i, d := range [...]*time.Duration{&h.Interval, &h.Timeout, &h.StartPeriod, &h.StartInterval} {
		var err error
		if *d, err = time.ParseDuration(v[i]); err != nil {
			return nil, err
		}
	}
	var err error
	h.Retries, err = strconv.Atoi(v[4])
	return h, err
}

func addKey(m map[string]struct{}, k string) map[string]struct{} {
	if m == nil {
		m = map[string]struct{}{}
	}
	m[k] = struct{}{}
	return m
}
