package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/image"
)

func (a *app) importCommand() *cli.Command {
	return &cli.Command{
		Usage: "make an image from a tar of a root file system", ArgsUsage: "FILE|- [NAME[:TAG]]",
		Flags: []cli.Flag{
			list("change,c", "list", "set a part of the configuration, in the words of a Dockerfile"),
			text("message,m", "string", "comment in the image's history"),
		},
		Action: func(c *cli.Context) error {
			n := image.NewImage{Name: c.Args().Get(1)}
			n.History.Comment, n.History.CreatedBy = c.String("message"), "berth import"
			for _, line := range c.StringSlice("change") {
				if err := change(&n.Config, line); err != nil {
					return err
				}
			}
			if n.Name != "" {
				if _, err := image.Parse(n.Name); err != nil {
					return err
				}
			}
			var in io.Reader = os.Stdin
			if name := c.Args().First(); name != "-" {
				f, err := os.Open(name)
				if err != nil {
					return withHint(fmt.Errorf("import: %w", err), "give the path of a tar, or - for stdin")
				}
				defer f.Close()
				in = f
			}
			if err := a.open(); err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			img, err := a.images.Import(ctx, in, n)
			if err == nil {
				fmt.Fprintln(a.out, img.ID)
			}
			return err
		},
	}
}

// change applies one instruction of a Dockerfile that needs no build: those
// that docker takes for import and commit.
func change(cfg *image.Config, line string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return badChange(line)
	}
	switch strings.ToUpper(word) {
	case "CMD":
		cfg.Cmd = argv(rest)
	case "ENTRYPOINT":
		cfg.Entrypoint = argv(rest)
	case "USER":
		cfg.User = rest
	case "WORKDIR":
		cfg.WorkingDir = rest
	case "STOPSIGNAL":
		cfg.StopSignal = rest
	case "ENV":
		return pairs(line, rest, func(k, v string) { setEnv(&cfg.Env, k, v) })
	case "LABEL":
		if cfg.Labels == nil {
			cfg.Labels = map[string]string{}
		}
		return pairs(line, rest, func(k, v string) { cfg.Labels[k] = v })
	case "EXPOSE":
		cfg.ExposedPorts = addKeys(cfg.ExposedPorts, strings.Fields(rest), "/tcp")
	case "VOLUME":
		cfg.Volumes = addKeys(cfg.Volumes, words(rest), "")
	default:
		return badChange(line)
	}
	return nil
}

func badChange(line string) error {
	return fail(fmt.Sprintf("invalid --change %q", line),
		"there are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR")
}

// argv is the exec form, ["a","b"], or the shell form.
func argv(s string) []string {
	var list []string
	if json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	return []string{"/bin/sh", "-c", s}
}

func words(s string) []string {
	var list []string
	if json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	return strings.Fields(s)
}

// pairs reads K=V K="V W", or the old form K V.
func pairs(line, s string, set func(k, v string)) error {
	if k, v, ok := strings.Cut(s, " "); ok && !strings.Contains(k, "=") {
		set(k, strings.TrimSpace(v))
		return nil
	}
	for s != "" {
		k, rest, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return badChange(line)
		}
		v := ""
		v, s = unquote(rest)
		set(k, v)
		s = strings.TrimLeft(s, " ")
	}
	return nil
}

// unquote reads up to a blank that is not quoted and returns what follows.
func unquote(s string) (value, rest string) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == ' ':
			return b.String(), s[i:]
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

func setEnv(env *[]string, k, v string) {
	for i, e := range *env {
		if strings.HasPrefix(e, k+"=") {
			(*env)[i] = k + "=" + v
			return
		}
	}
	*env = append(*env, k+"="+v)
}

func addKeys(m map[string]struct{}, keys []string, suffix string) map[string]struct{} {
	if m == nil {
		m = map[string]struct{}{}
	}
	for _, k := range keys {
		if suffix != "" && !strings.Contains(k, "/") {
			k += suffix
		}
		m[k] = struct{}{}
	}
	return m
}
