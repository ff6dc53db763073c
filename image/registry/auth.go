package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-run/berth/image"
)

// credentials are what a registry is told about the user.
type credentials struct {
	user, password string
	identity       string // a refresh token, from "docker login" by browser
}

// authEntry is one of the "auths" of docker's config.json.
type authEntry struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
}

// configFiles are where docker and podman keep logins, in the order of their weight.
func configFiles() (out []string) {
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		return []string{f}
	}
	if d := os.Getenv("DOCKER_CONFIG"); d != "" {
		out = append(out, filepath.Join(d, "config.json"))
	} else if h, err := os.UserHomeDir(); err == nil {
		out = append(out, filepath.Join(h, ".docker", "config.json"))
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		out = append(out, filepath.Join(d, "containers", "auth.json"))
	}
	return out
}

// findCredentials looks for the repository's own entry, then for the
// registry's. Credential helpers are programs, which berth does not run.
func findCredentials(r image.Reference, opt Options) (credentials, error) {
	if opt.Username != "" {
		return credentials{user: opt.Username, password: opt.Password}, nil
	}
	keys := []string{r.Domain + "/" + r.Repo, r.Domain, "https://" + r.Domain, "http://" + r.Domain}
	if r.Domain == "docker.io" {
		keys = append(keys, "https://index.docker.io/v1/", "index.docker.io")
	}
	for _, f := range configFiles() {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var c struct {
			Auths map[string]authEntry `json:"auths"`
		}
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			return credentials{}, fmt.Errorf("read logins from %s: %w", f, err)
		}
		for _, k := range keys {
			if e, ok := c.Auths[k]; ok {
				return e.decode(f, k)
			}
		}
	}
	return credentials{}, nil
}

func (e authEntry) decode(file, key string) (credentials, error) {
	c := credentials{user: e.Username, password: e.Password, identity: e.IdentityToken}
	if e.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(e.Auth)
		user, password, ok := strings.Cut(strings.TrimRight(string(b), "\x00"), ":")
		if err != nil || !ok {
			return c, fmt.Errorf("read logins from %s: entry %q: auth is not the base64 of user:password", file, key)
		}
		c.user, c.password = user, password
	}
	return c, nil
}

// A challenge is what a 401 asks for: RFC 7235, and
// distribution's docs/spec/auth/token.md for Bearer.
type challenge struct {
	scheme string // "basic", "bearer" or ""
	params map[string]string
}

// pickChallenge prefers Bearer.
func pickChallenge(headers []string) (c challenge) {
	for _, h := range headers {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
		switch s := strings.ToLower(scheme); s {
		case "bearer":
			return challenge{s, params(rest)}
		case "basic":
			c = challenge{s, params(rest)}
		}
	}
	return c
}

// params reads key="value", key=value, …
func params(s string) map[string]string {
	out := map[string]string{}
	for {
		s = strings.TrimLeft(s, " \t,")
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			return out
		}
		var val string
		if strings.HasPrefix(rest, `"`) {
			i := 1
			for i < len(rest) && rest[i] != '"' {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				val += string(rest[i])
				i++
			}
			rest = rest[min(i+1, len(rest)):]
		} else {
			val, rest, _ = strings.Cut(rest, ",")
		}
		out[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(val)
		s = rest
	}
}

// refused forgets an authorisation that did not do.
func (c *client) refused(auth string, ask challenge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ask.scheme != "" {
		c.ask = ask
	}
	if c.auth == auth {
		c.auth = ""
	}
}

// authorization returns the header's value, fetching a token if need be; ""
// for a registry that asked for nothing.
func (c *client) authorization(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.auth != "" || c.ask.scheme == "" {
		return c.auth, nil
	}
	if c.ask.scheme == "basic" {
		if c.creds.user == "" {
			return "", nil
		}
		c.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.creds.user+":"+c.creds.password))
		return c.auth, nil
	}
	token, err := c.token(ctx)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	c.auth = "Bearer " + token
	return c.auth, nil
}

// token asks the registry's token server: by GET with the password, or by POST
// with a refresh token (distribution's docs/spec/auth/oauth.md).
func (c *client) token(ctx context.Context) (string, error) {
	realm, err := url.Parse(c.ask.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" {
		return "", fmt.Errorf("registry names no token server: realm=%q", oneLine(c.ask.params["realm"]))
	}
	if realm.Scheme == "http" && !c.insecure && !isLoopback(realm.Host) {
		return "", fmt.Errorf("token server %s is not encrypted", realm.Host)
	}
	q := url.Values{"scope": {c.scope}}
	if s := c.ask.params["service"]; s != "" {
		q.Set("service", s)
	}
	req, err := c.tokenRequest(ctx, realm, q)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", statusError(resp)
	}
	b, err := readUpTo(resp.Body, 1<<20)
	if err != nil {
		return "", err
	}
	var t struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return "", err
	}
	if t.Token == "" {
		t.Token = t.AccessToken
	}
	if t.Token == "" {
		return "", errors.New("token server gave none")
	}
	return t.Token, nil
}

func (c *client) tokenRequest(ctx context.Context, realm *url.URL, q url.Values) (*http.Request, error) {
	if c.creds.identity != "" {
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", c.creds.identity)
		q.Set("client_id", "berth")
		req, err := http.NewRequestWithContext(ctx, "POST", realm.String(), strings.NewReader(q.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	u := *realm
	old := u.Query()
	for k, v := range q {
		old[k] = v
	}
	u.RawQuery = old.Encode()
	req, err := http.NewRequestWithContext(ctx, "GET", u.String(), nil)
	if err == nil && c.creds.user != "" {
		req.SetBasicAuth(c.creds.user, c.creds.password)
	}
	return req, err
}
