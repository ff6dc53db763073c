package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/berth-run/berth/image"
)

// What errors.Is finds in the errors of Pull and Push.
var (
	ErrNotFound = errors.New("not found in the registry")
	ErrDenied   = errors.New("access denied by the registry")
	ErrNetwork  = errors.New("registry cannot be reached")
)

// A StatusError is an answer that says no.
type StatusError struct {
	Code   int    // HTTP status
	Detail string // the registry's own words; "" if it had none
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("registry answered %d %s", e.Code, http.StatusText(e.Code))
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// statusError reads what the registry says: distribution-spec, "Error Codes".
func statusError(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	e := &StatusError{Code: resp.StatusCode}
	var said struct {
		Errors []struct{ Code, Message string }
	}
	if err == nil && json.Unmarshal(b, &said) == nil {
		var words []string
		for _, w := range said.Errors[:min(3, len(said.Errors))] {
			words = append(words, oneLine(w.Message))
		}
		e.Detail = strings.Join(words, "; ")
	}
	return e
}

// oneLine makes a stranger's text fit for a terminal.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}

// worthRetry: a broken connection, or a registry that says "later".
func worthRetry(err error) bool {
	var st *StatusError
	if errors.As(err, &st) {
		return st.Code == http.StatusTooManyRequests || st.Code == http.StatusRequestTimeout || st.Code >= 500 && st.Code != http.StatusNotImplemented
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || isRefused(err) {
		return false
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// explain makes one clear line of an error: operation, object, cause.
func explain(op string, r image.Reference, err error) error {
	what := op + " " + r.String()
	var st *StatusError
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var plain tls.RecordHeaderError
	var out *url.Error
	switch {
	case errors.As(err, &st) && st.Code == http.StatusNotFound:
		return fmt.Errorf("%s: %w%s", what, ErrNotFound, detail(st))
	case errors.As(err, &st) && (st.Code == http.StatusUnauthorized || st.Code == http.StatusForbidden):
		return fmt.Errorf("%s: %w %s: it does not exist, or needs a login%s", what, ErrDenied, r.Domain, detail(st))
	case errors.As(err, &st):
		return fmt.Errorf("%s: %w", what, st)
	case errors.As(err, &dns):
		return fmt.Errorf("%s: %w: cannot find host %s: %s", what, ErrNetwork, dns.Name, dns.Err)
	case errors.As(err, &plain):
		return fmt.Errorf("%s: %w: %s does not speak https: %s", what, ErrNetwork, r.Domain, plain.Msg)
	case errors.As(err, &cert), errors.As(err, &unknown):
		return fmt.Errorf("%s: %w: certificate of %s: %w", what, ErrNetwork, r.Domain, errors.Unwrap(err))
	case errors.As(err, &out):
		return fmt.Errorf("%s: %w: %w", what, ErrNetwork, out.Err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func detail(st *StatusError) string {
	if st.Detail == "" {
		return ""
	}
	return " (" + st.Detail + ")"
}
