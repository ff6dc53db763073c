package oci

import (
	"testing"
	"time"
)

// The expected lines are logrus' for the same messages.
func TestLogFormats(t *testing.T) {
	now := time.Date(2026, 11, 25, 2, 55, 3, 4, time.UTC)
	for _, c := range []struct{ level, msg, text, json string }{
		{"error", "container does not exist",
			`time="2026-11-25T02:55:03Z" level=error msg="container does not exist"`,
			`{"level":"error","msg":"container does not exist","time":"2026-11-25T02:55:03Z"}`},
		{"warning", "plain-./_@^+", `time="2026-11-25T02:55:03Z" level=warning msg=plain-./_@^+`,
			`{"level":"warning","msg":"plain-./_@^+","time":"2026-11-25T02:55:03Z"}`},
		{"debug", "a \"b\"\n<c>é", `time="2026-11-25T02:55:03Z" level=debug msg="a \"b\"\n<c>é"`,
			`{"level":"debug","msg":"a \"b\"\n\u003cc\u003eé","time":"2026-11-25T02:55:03Z"}`},
		{"error", "", `time="2026-11-25T02:55:03Z" level=error`,
			`{"level":"error","msg":"","time":"2026-11-25T02:55:03Z"}`},
	} {
		if got := textLine(c.level, c.msg, now); got != c.text+"\n" {
			t.Errorf("text: %s want %s", got, c.text)
		}
		if got := jsonLine(c.level, c.msg, now); got != c.json+"\n" {
			t.Errorf("JSON: %s want %s", got, c.json)
		}
	}
	want := "\x1b[31mERRO\x1b[0m[0012] no                                           \n"
	if got := colourLine("error", "no\n", 12*time.Second+time.Millisecond); got != want {
		t.Errorf("colours: %q want %q", got, want)
	}
}
