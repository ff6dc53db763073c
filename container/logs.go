package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// LogOptions are the flags of logs.
type LogOptions struct {
	Tail         int // -1: all
	Since, Until time.Time
	Follow       bool
	Timestamps   bool
}

// logLine is one line of log.json.
type logLine struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

func (c *Container) logPath() string { return c.dir + "/log.json" }

// Logs writes what the container said to stdout and stderr; with Follow until
// the container ends or ctx is done.
func (c *Container) Logs(ctx context.Context, o LogOptions, stdout, stderr io.Writer) error {
	p := &logPrinter{o: o, stdout: stdout, stderr: stderr}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	// newest first, so that a rotation meanwhile shows lines twice rather than never
	for i := range maxLogFiles {
		f, err := os.Open(logName(c.logPath(), i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("logs of %s: %w", c.Name, err)
		}
		files = append(files, f)
	}
	if o.Tail >= 0 {
		p.skip = countLines(files) - o.Tail
		for _, f := range files {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return fmt.Errorf("logs of %s: %w", c.Name, err)
			}
		}
	}
	for i := len(files) - 1; i >= 0; i-- {
		if err := p.copy(files[i]); err != nil {
			return fmt.Errorf("logs of %s: %w", c.Name, err)
		}
	}
	if !o.Follow {
		return nil
	}
	var last *os.File
	if len(files) > 0 {
		last = files[0]
	}
	if err := c.follow(ctx, p, last); err != nil {
		return fmt.Errorf("logs of %s: %w", c.Name, err)
	}
	return nil
}

// countLines counts the lines of all files.
func countLines(files []*os.File) int {
	n := 0
	for _, f := range files {
		r := bufio.NewReaderSize(f, 64<<10)
		for {
			line, err := r.ReadSlice('\n')
			if len(line) > 0 && line[len(line)-1] == '\n' {
				n++
			}
			if err != nil && err != bufio.ErrBufferFull {
				break
			}
		}
	}
	return n
}

// follow polls log.json: several readers and a writer that may be killed need
// nothing of each other so. The state is read before the file, so that the
// last words of a container that has ended are seen.
func (c *Container) follow(ctx context.Context, p *logPrinter, f *os.File) error {
	for {
		st := c.State()
		ended := st.Status == Exited || st.Status == Created && !st.watched()
		_, gone := os.Stat(c.dir)
		var err error
		if f, err = c.next(p, f); err != nil {
			return err
		}
		if ended && !c.starting() || gone != nil || p.done {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(40 * time.Millisecond):
		}
	}
}

// starting: somebody holds the lock, so what comes next is not decided.
func (c *Container) starting() bool {
	f, err := lockDir(c.dir, lockTry)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	f.Close()
	return false
}

// next copies what is new in f, and goes on to log.json when that is another
// file by now.
func (c *Container) next(p *logPrinter, f *os.File) (*os.File, error) {
	if f != nil {
		if err := p.copy(f); err != nil {
			return f, err
		}
	}
	now, err := os.Stat(c.logPath())
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if f != nil {
		if old, err := f.Stat(); err == nil && os.SameFile(old, now) {
			return f, nil
		}
	}
	n, err := os.Open(c.logPath())
	if err != nil {
		return f, nil // rotated this moment: the next round finds it
	}
	return n, p.copy(n)
}

// logPrinter writes lines that the options let through. part is the start of a
// line whose rest is not written yet.
type logPrinter struct {
	o              LogOptions
	stdout, stderr io.Writer
	skip           int // lines that --tail leaves out
	part           []byte
	done           bool
}

func (p *logPrinter) copy(f *os.File) error {
	r := bufio.NewReaderSize(f, 64<<10)
	out, errw := bufio.NewWriter(p.stdout), bufio.NewWriter(p.stderr)
	for {
		line, err := r.ReadBytes('\n')
		if err == nil || len(line) > 0 {
			p.part = append(p.part, line...)
		}
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return errors.Join(err, out.Flush(), errw.Flush())
		}
		if err := p.print(p.part, out, errw); err != nil {
			return err
		}
		p.part = p.part[:0]
	}
}

func (p *logPrinter) print(line []byte, out, errw *bufio.Writer) error {
	if p.skip > 0 {
		p.skip--
		return nil
	}
	var l logLine
	if json.Unmarshal(line, &l) != nil {
		return nil // cut by a crash
	}
	if l.Time.Before(p.o.Since) {
		return nil
	}
	if !p.o.Until.IsZero() && l.Time.After(p.o.Until) {
		p.done = true
		return nil
	}
	w, other := out, errw
	if l.Stream == "stderr" {
		w, other = errw, out
	}
	if err := other.Flush(); err != nil { // both may be one terminal: keep the order
		return err
	}
	if p.o.Timestamps {
		// fixed width, as docker prints it
		if _, err := io.WriteString(w, l.Time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00")+" "); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, l.Log)
	return err
}
