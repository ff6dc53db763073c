package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/berth-run/berth/image"
)

// A client speaks to one repository of one registry.
type client struct {
	http     *http.Client
	base     *url.URL // scheme and host
	repo     string
	scope    string
	creds    credentials
	insecure bool

	mu   sync.Mutex
	auth string // the Authorization header
	ask  challenge
}

// idle is how long a connection may be silent.
const idle = 60 * time.Second

// dial finds out how to speak to the registry. action is pull, or pull,push.
func dial(ctx context.Context, r image.Reference, opt Options, action string) (*client, error) {
	host := r.Domain
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	creds, err := findCredentials(r, opt)
	if err != nil {
		return nil, err
	}
	c := &client{repo: r.Repo, scope: "repository:" + r.Repo + ":" + action, creds: creds, insecure: opt.Insecure}
	c.http = &http.Client{
		CheckRedirect: c.checkRedirect,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   15 * time.Second,
			ResponseHeaderTimeout: idle,
			MaxIdleConnsPerHost:   8,
			DisableCompression:    true, // a blob's digest is that of its bytes as they travel
			TLSClientConfig:       &tls.Config{InsecureSkipVerify: opt.Insecure},
		},
	}
	// Plain http only where nobody can listen in, or where the user asked for it.
	schemes := []string{"https"}
	switch {
	case isLoopback(host):
		schemes = []string{"http", "https"}
	case opt.Insecure:
		schemes = []string{"https", "http"}
	}
	var errs error
	for _, s := range schemes {
		c.base = &url.URL{Scheme: s, Host: host}
		err := c.ping(ctx)
		if err == nil {
			return c, nil
		}
		if errs == nil || !isRefused(errs) {
			errs = err
		}
	}
	return nil, errs
}

// isLoopback: localhost and 127.0.0.0/8 and ::1, with or without a port.
func isLoopback(host string) bool {
	h := host
	if name, _, err := net.SplitHostPort(host); err == nil {
		h = name
	}
	h = strings.Trim(h, "[]")
	if h == "localhost" || strings.HasSuffix(h, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(h)
	return err == nil && a.IsLoopback()
}

// checkRedirect keeps a redirect from leaving https: blobs are verified, but
// tokens and private names should not be read on the way.
func (c *client) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > 10 {
		return errors.New("more than 10 redirects")
	}
	if req.URL.Scheme == "http" && !c.insecure && !isLoopback(req.URL.Host) {
		return fmt.Errorf("redirect to %s, which is not encrypted", req.URL.Host)
	}
	return nil
}

// ping learns the challenge: distribution-spec, "Determining Support"; GET /v2/.
func (c *client) ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "GET", c.base.String()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized:
		c.ask = pickChallenge(resp.Header.Values("WWW-Authenticate"))
		return nil
	}
	return statusError(resp)
}

// get is a GET below the repository that succeeded, with retries while the
// registry says "later". The caller closes the body.
func (c *client) get(ctx context.Context, path string, h http.Header) (*http.Response, error) {
	for try := 0; ; try++ {
		resp, err := c.do(ctx, "GET", c.url(path), h, nil, -1)
		if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent) {
			return resp, nil
		}
		if err == nil {
			err = statusError(resp)
			resp.Body.Close()
		}
		if try == maxTries || !worthRetry(err) {
			return nil, err
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return nil, err
		}
	}
}

func (c *client) url(path string) string { return c.base.String() + "/v2/" + c.repo + path }

// do sends one request with the authorisation that the registry wants, and
// once again if it wants another.
func (c *client) do(ctx context.Context, method, to string, h http.Header, body io.Reader, length int64) (*http.Response, error) {
	for second := false; ; second = true {
		req, err := http.NewRequestWithContext(ctx, method, to, body)
		if err != nil {
			return nil, err
		}
		for k, v := range h {
			req.Header[k] = v
		}
		if length >= 0 {
			req.ContentLength = length
		}
		req.Header.Set("User-Agent", "berth")
		auth := ""
		if req.URL.Host == c.base.Host { // an upload may go elsewhere; credentials do not
			if auth, err = c.authorization(ctx); err != nil {
				return nil, err
			}
			if auth != "" {
				req.Header.Set("Authorization", auth)
			}
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || second || body != nil {
			return resp, nil
		}
		// The token is too old, or the challenge names another scope.
		c.refused(auth, pickChallenge(resp.Header.Values("WWW-Authenticate")))
		resp.Body.Close()
	}
}

const maxTries = 5

func backoff(try int) time.Duration { return 200 * time.Millisecond << min(try, 5) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
