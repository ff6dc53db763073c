package cmd

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

type testRow struct{ Name, Size string }

func shown(t *testing.T, format string, rows ...testRow) (string, error) {
	t.Helper()
	var b bytes.Buffer
	err := show(&b, format, "{{.Name}}\t{{.Size}}", testRow{"NAME", "SIZE"}, rows)
	return b.String(), err
}

func TestShow(t *testing.T) {
	row := testRow{"web", "1B"}
	for _, tc := range []struct{ format, want string }{
		{"", "NAME      SIZE\nweb       1B\n"},
		{"table", "NAME      SIZE\nweb       1B\n"},
		{`table {{.Size}}\t{{.Name}}`, "SIZE      NAME\n1B        web\n"},
		{"json", `{"Name":"web","Size":"1B"}` + "\n"},
		{"{{json .Name}}", "\"web\"\n"},
		{`{{upper .Name}}:{{join (split .Name "e") "-"}}`, "WEB:w-b\n"},
		{`{{.Name}}\t{{truncate .Name 2}}`, "web\twe\n"},
	} {
		got, err := shown(t, tc.format, row)
		if err != nil || got != tc.want {
			t.Errorf("%q: got %q, %v, want %q", tc.format, got, err, tc.want)
		}
	}
	for _, format := range []string{"{{.NoSuchField}}", "{{", "table {{.Nope}}"} {
		for _, rows := range [][]testRow{nil, {row}} {
			got, err := shown(t, format, rows...)
			if err == nil || got != "" {
				t.Errorf("%q with %d rows: got %q, %v", format, len(rows), got, err)
			}
		}
	}
}

func TestPrintObjects(t *testing.T) {
	type state struct {
		ExitCode int
		Env      []string
	}
	type object struct {
		ID    string `json:"Id"`
		State state
	}
	o := []any{&object{"abc", state{6, []string{"A=1", "B=2"}}}}
	for _, tc := range []struct{ format, want string }{
		{"{{.Id}} {{.ID}}", ""}, // no object has both
		{"{{.Id}}", "abc\n"},
		{"{{.ID}}", "abc\n"},
		{"{{if eq .State.ExitCode 6}}six{{end}} {{len .State.Env}} {{index .State.Env 0}}", "six 2 A=1\n"},
		{"{{range .State.Env}}{{println .}}{{end}}", "A=1\nB=2\n\n"},
		{"{{json .State}}", `{"Env":["A=1","B=2"],"ExitCode":6}` + "\n"},
		{"{{.No.Such}}", ""},
	} {
		var b bytes.Buffer
		err := printObjects(&b, tc.format, o)
		if (err != nil) != (tc.want == "") || b.String() != tc.want {
			t.Errorf("%s: got %q, %v, want %q", tc.format, b.String(), err, tc.want)
		}
	}
	var b bytes.Buffer
	if err := printObjects(&b, "", o[:0]); err != nil || strings.TrimSpace(b.String()) != "[]" {
		t.Errorf("nothing: got %q, %v", b.String(), err)
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "512": 512, "1k": 1024, "64m": 64 << 20, "64MB": 64 << 20, "64MiB": 64 << 20, "1.5g": 3 << 29, "2T": 2 << 40, "10b": 10, "1 GB": 1 << 30,
	} {
		if got, ok := parseSize(in); !ok || got != want {
			t.Errorf("%s: got %d, %v, want %d", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "m", "x", "1x", "-1", "1mm", "1ib", "0x1", "1_000", "inf", "nan", "1e99", "1 2m"} {
		if got, ok := parseSize(in); ok {
			t.Errorf("%q: got %d", in, got)
		}
	}
	for in, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1kB", 2147000: "2.15MB", 72800000000: "72.8GB"} {
		if got := humanSize(in, 3); got != want {
			t.Errorf("%d: got %s, want %s", in, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0: "Less than a second", time.Second: "1 second", 59 * time.Second: "59 seconds", time.Minute: "About a minute",
		46 * time.Minute: "46 minutes", time.Hour: "About an hour", 47 * time.Hour: "47 hours", 72 * time.Hour: "3 days",
		24 * 20 * time.Hour: "2 weeks", 24 * 90 * time.Hour: "3 months", 24 * 800 * time.Hour: "2 years",
	} {
		if got := humanTime(in); got != want {
			t.Errorf("%v: got %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]time.Time{
		"2026-01-02T13:23:37Z": time.Date(2026, 1, 2, 13, 23, 37, 0, time.UTC), "1600000000": time.Unix(1600000000, 0),
		"1600000000.5": time.Unix(1600000000, 5e8), "2026-01-02": time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
	} {
		if got, ok := parseMoment(in); !ok || !got.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", in, got, ok, want)
		}
	}
	if got, ok := parseMoment("10m"); !ok || time.Since(got).Round(time.Minute) != 10*time.Minute {
		t.Errorf("10m: got %v, %v", got, ok)
	}
	if _, ok := parseMoment("yesterday"); ok {
		t.Error("yesterday is taken for a time")
	}
}

func TestFilters(t *testing.T) {
	f, err := parseFilters([]string{"name=web", "label=a", "label=b=2"}, "name", "label", "reference")
	if err != nil {
		t.Fatal(err)
	}
	if !f.name("myweb1") || f.name("db") || !f.labels(map[string]string{"a": "", "b": "2"}) || f.labels(map[string]string{"a": "", "b": "3"}) {
		t.Error("filters do not do what they say")
	}
	for _, bad := range []string{"nonsense=1", "name"} {
		if _, err := parseFilters([]string{bad}, "name"); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	f = filters{"reference": {"localhost/accept-b*"}}
	if !f.reference("localhost/accept-base", "1") || f.reference("localhost/other", "1") {
		t.Error("reference")
	}
}
