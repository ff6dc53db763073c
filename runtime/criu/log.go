package criu

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// explain adds to an error what criu's log has to say about it: its first complaint,
// and, as warnings, each complaint with the lines before it.
func (c *Criu) explain(err error, path string) error {
	f, oerr := os.Open(path)
	if oerr != nil {
		c.Warn("%v", oerr)
		return err
	}
	defer f.Close()
	quote, cause := quoteErrors(bufio.NewScanner(f))
	if cause == "" {
		return fmt.Errorf("%w (log file: %s)", err, path)
	}
	c.Warn("--- Quoting %q", path)
	for _, line := range quote {
		c.Warn("%s", line)
	}
	c.Warn("---")
	return fmt.Errorf("%w: %s (log file: %s)", err, cause, path)
}

const (
	before  = 5          // lines that are quoted with an error
	maxLine = 256 * 1024 // a list of mounts or pages is one line
)

// quoteErrors gives the lines with "Error" in them, numbered, and those before each;
// "..." where some are left out. cause is the first of them: those after it are mostly about
// its consequences.
func quoteErrors(s *bufio.Scanner) (quote []string, cause string) {
	s.Buffer(nil, maxLine)
	var recent []string
	printed := 0
	for n := 1; s.Scan(); n++ {
		if recent = append(recent, s.Text()); len(recent) > before+1 {
			recent = recent[1:]
		}
		if !strings.Contains(s.Text(), "Error") {
			continue
		}
		if cause == "" {
			cause = s.Text()
		}
		first := n - len(recent) + 1
		if printed > 0 && first > printed+1 {
			quote = append(quote, "...")
		}
		for i, line := range recent {
			if at := first + i; at > printed {
				quote = append(quote, fmt.Sprintf("%d:%s", at, line))
			}
		}
		printed = n
	}
	return quote, cause
}
