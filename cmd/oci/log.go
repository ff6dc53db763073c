package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/berth-run/berth/runtime/signals"
)

// logger writes logrus' two formats, which containerd and podman parse.
type logger struct {
	stderr *os.File
	out    *os.File // stderr or the file of --log
	json   bool
	debug  bool
	began  time.Time
}

func newLogger(stderr *os.File) *logger {
	return &logger{stderr: stderr, out: stderr, began: time.Now()}
}

// open sends the log to a file. Several processes append to it, each line by
// one write.
func (l *logger) open(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_SYNC, 0o644)
	if err != nil {
		return err
	}
	l.out = f
	return nil
}

// keepOnBrokenPipe: that nobody reads the log must not end who waits for a container.
func (l *logger) keepOnBrokenPipe() {
	onStderr := l.onStderr()
	if l.stderr = signals.Unbroken(l.stderr); onStderr {
		l.out = l.stderr
	}
}

func (l *logger) warn(msg string) { l.write("warning", msg) }

func (l *logger) error(msg string) { l.write("error", msg) }

func (l *logger) debugf(msg string) {
	if l.debug {
		l.write("debug", msg)
	}
}

func (l *logger) onStderr() bool { return l.out == l.stderr }

// fatal logs the error that ends the program, and says it on stderr if the log
// is elsewhere.
func (l *logger) fatal(msg string) {
	l.error(msg)
	if !l.onStderr() {
		fmt.Fprintln(l.stderr, msg)
	}
}

// write ignores errors: there is nobody left to tell.
func (l *logger) write(level, msg string) {
	now := time.Now()
	var line string
	switch {
	case l.json:
		line = jsonLine(level, msg, now)
	case term.IsTerminal(int(l.out.Fd())):
		line = colourLine(level, msg, now.Sub(l.began))
	default:
		line = textLine(level, msg, now)
	}
	l.out.WriteString(line)
}

func textLine(level, msg string, now time.Time) string {
	line := "time=" + quote(now.Format(time.RFC3339)) + " level=" + level
	if msg != "" {
		line += " msg=" + quote(msg)
	}
	return line + "\n"
}

// quote quotes what has more in it than letters, digits and a few signs.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._/@^+", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

func jsonLine(level, msg string, now time.Time) string {
	b, err := json.Marshal(struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Time  string `json:"time"`
	}{level, msg, now.Format(time.RFC3339)})
	if err != nil { // strings cannot fail
		return textLine(level, msg, now)
	}
	return string(b) + "\n"
}

// colourLine is for people: the level's first four letters, seconds since the start.
func colourLine(level, msg string, since time.Duration) string {
	colour := map[string]int{"debug": 37, "warning": 33, "error": 31}[level]
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m[%04d] %-44s \n", colour, strings.ToUpper(level[:4]),
		int(since.Seconds()), strings.TrimSuffix(msg, "\n"))
}
