package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode/utf8"
)

// functions are those of docker's --format, beside Go's own.
func functions() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSuffix(b.String(), "\n"), err
		},
		"split": strings.Split,
		"join":  strings.Join,
		"title": func(s string) string {
			_, n := utf8.DecodeRuneInString(s)
			return strings.ToUpper(s[:n]) + s[n:]
		},
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"pad": func(s string, left, right int) string {
			return strings.Repeat(" ", left) + s + strings.Repeat(" ", right)
		},
		"truncate": func(s string, n int) string {
			return string([]rune(s)[:min(max(n, 0), utf8.RuneCountInString(s))])
		},
	}
}

func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(functions()).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, badTemplate(text, err)
	}
	return t, nil
}

func badTemplate(text string, err error) error {
	// "template: :1:2: executing "" at <.X>: …": the front says nothing to a user
	why := strings.TrimPrefix(err.Error(), "template: ")
	var exec template.ExecError
	if errors.As(err, &exec) {
		if _, rest, ok := strings.Cut(why, " at <"); ok {
			why = "<" + rest
		}
	}
	return fail(fmt.Sprintf("invalid --format %q: %s", text, why), "see the fields there are: --format json")
}

// show prints rows as --format says: "" or "table" is the standard table,
// "json" one object a line, "table TEMPLATE" a table of these columns, anything
// else a Go template for each row. header is a row that holds the column titles.
func show[T any](w io.Writer, format, standard string, header T, rows []T) error {
	table := false
	switch {
	case format == "" || format == "table":
		format, table = standard, true
	case format == "json":
		format = "{{json .}}"
	case strings.HasPrefix(format, "table "):
		format, table = strings.TrimSpace(format[len("table "):]), true
	}
	text := strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	// the header also tells of an unknown field when there are no rows
	if err := t.Execute(&b, header); err != nil {
		return badTemplate(format, err)
	}
	b.WriteByte('\n')
	if !table {
		b.Reset()
	}
	for _, row := range rows {
		if err := t.Execute(&b, row); err != nil {
			return badTemplate(format, err)
		}
		b.WriteByte('\n')
	}
	if !table {
		_, err = w.Write(b.Bytes())
		return err
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	if _, err := tw.Write(b.Bytes()); err != nil {
		return err
	}
	return tw.Flush()
}
