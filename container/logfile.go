package container

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/berth-run/berth/coldjson"
)

// Logs are kept as docker's json-file driver does: one JSON object a line,
// rotated from the start, since a log without bound fills disks.
const (
	maxLogSize  = 10 << 20
	maxLogFiles = 3 // log.json, log.json.1, log.json.2
	// maxLogLine splits what has no newline, as docker does.
	maxLogLine = 16 << 10
)

// logFile writes containers/ID/log.json. The file appears with the first byte
// of output: a container that says nothing costs nothing. Both streams share it.
type logFile struct {
	mu   sync.Mutex
	path string
	f    *os.File
	size int64
	buf  []byte
	err  error // the first one; output goes on without a log
}

// logStream splits one stream into lines. Its rest without a newline is kept
// until more comes, the line gets too long, or flush.
type logStream struct {
	log  *logFile
	name string
	part []byte
}

// Write never fails: a full disk must not stop the container's output.
func (s *logStream) Write(p []byte) (int, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	stamp := time.Now().UTC().AppendFormat(nil, `","time":"`+time.RFC3339Nano+"\"}\n")
	b := s.log.buf[:0]
	for rest := p; len(rest) > 0; {
		i := 0
		for i < len(rest) && rest[i] != '\n' && len(s.part)+i < maxLogLine {
			i++
		}
		whole := i < len(rest)
		if whole && rest[i] == '\n' {
			i++
		}
		if !whole {
			s.part = append(s.part, rest...)
			break
		}
		b = appendLine(b, s.part, rest[:i], s.name, stamp)
		s.part, rest = s.part[:0], rest[i:]
	}
	s.log.buf = b
	s.log.write(b)
	return len(p), nil
}

// flush writes the rest of a last line.
func (s *logStream) flush() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if len(s.part) == 0 {
		return
	}
	stamp := time.Now().UTC().AppendFormat(nil, `","time":"`+time.RFC3339Nano+"\"}\n")
	s.log.write(appendLine(nil, s.part, nil, s.name, stamp))
	s.part = s.part[:0]
}

// appendLine appends {"log":"…","stream":"…","time":"…"} without reflection.
func appendLine(b, p1, p2 []byte, stream string, stamp []byte) []byte {
	b = append(b, `{"log":"`...)
	b = coldjson.AppendEscaped(b, p1)
	b = coldjson.AppendEscaped(b, p2)
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	return append(b, stamp...)
}

func (l *logFile) write(b []byte) {
	if len(b) == 0 {
		return
	}
	if l.f != nil && l.size+int64(len(b)) > maxLogSize && l.size > 0 {
		l.rotate()
	}
	if l.f == nil {
		f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			l.err = errors.Join(l.err, err)
			return
		}
		if fi, err := f.Stat(); err == nil {
			l.size = fi.Size()
		}
		l.f = f
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	if err != nil && l.err == nil {
		l.err = err
	}
}

// rotate moves log.json to log.json.1 and so on; the oldest is lost.
func (l *logFile) rotate() {
	l.f.Close()
	l.f, l.size = nil, 0
	for i := maxLogFiles - 1; i > 0; i-- {
		if err := os.Rename(logName(l.path, i-1), logName(l.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.err = errors.Join(l.err, err)
		}
	}
}

func logName(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.err = errors.Join(l.err, l.f.Close())
		l.f = nil
	}
	return l.err
}
