package container

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

func testContainer(t *testing.T) *Container {
	t.Helper()
	s := &Store{Root: t.TempDir()}
	c := &Container{store: s}
	c.ID, c.Name = strings.Repeat("ab", 32), "web"
	c.dir = s.dir(c.ID)
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

func logsOf(t *testing.T, c *Container, o LogOptions) (string, string) {
	t.Helper()
	var out, err bytes.Buffer
	if e := c.Logs(context.Background(), o, &out, &err); e != nil {
		t.Fatal(e)
	}
	return out.String(), err.String()
}

func TestLogs(t *testing.T) {
	c := testContainer(t)
	l := &logFile{path: c.logPath()}
	out, errs := &logStream{log: l, name: "stdout"}, &logStream{log: l, name: "stderr"}
	out.Write([]byte("one\ntw"))
	errs.Write([]byte("bad \"x\"\\\t\x01\xff\n"))
	out.Write([]byte("o\nthree"))
	out.flush()
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(c.logPath())
	for line := range strings.Lines(string(b)) {
		var v logLine
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.Time.IsZero() {
			t.Errorf("%q: %v", line, err)
		}
	}
	if o, e := logsOf(t, c, LogOptions{Tail: -1}); o != "one\ntwo\nthree" || e != "bad \"x\"\\\t\x01\ufffd\n" {
		t.Errorf("%q %q", o, e)
	}
	if o, e := logsOf(t, c, LogOptions{Tail: 2}); o != "two\nthree" || e != "" {
		t.Errorf("tail: %q %q", o, e)
	}
	if o, e := logsOf(t, c, LogOptions{Tail: 0}); o+e != "" {
		t.Errorf("tail 0: %q %q", o, e)
	}
	if o, e := logsOf(t, c, LogOptions{Tail: -1, Since: time.Now().Add(time.Hour)}); o+e != "" {
		t.Errorf("since: %q %q", o, e)
	}
	if o, _ := logsOf(t, c, LogOptions{Tail: 1, Timestamps: true}); !strings.HasSuffix(o, "Z three") || len(o) != 36 {
		t.Errorf("timestamps: %q", o)
	}
}

func TestLogFloodAndRotation(t *testing.T) {
	c := testContainer(t)
	l := &logFile{path: c.logPath()}
	s := &logStream{log: l, name: "stdout"}
	block := bytes.Repeat([]byte("x"), 32<<10)
	for range (8 << 20) / len(block) {
		s.Write(block)
	}
	s.flush()
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if o, _ := logsOf(t, c, LogOptions{Tail: -1}); len(o) != 8<<20 || strings.Trim(o, "x") != "" {
		t.Errorf("%d bytes came back", len(o))
	}
	for range (40 << 20) / len(block) {
		s.Write(block)
	}
	l.close()
	files, _ := os.ReadDir(c.dir)
	if len(files) != maxLogFiles {
		t.Errorf("%d files", len(files))
	}
	for _, f := range files {
		if fi, _ := f.Info(); fi.Size() > maxLogSize {
			t.Errorf("%s has %d bytes", f.Name(), fi.Size())
		}
	}
}

func BenchmarkLogWriter(b *testing.B) {
	l := &logFile{path: b.TempDir() + "/log.json"}
	s := &logStream{log: l, name: "stdout"}
	block := bytes.Repeat([]byte("a usual line of a program's output, 60 bytes or so long\n"), 500)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		s.Write(block)
	}
}
