package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const configFile = "config.json"

// loadSpec reads a bundle's configuration.
func loadSpec(path string) (*specs.Spec, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file %s not found", path)
	}
	if err != nil {
		return nil, err
	}
	var spec *specs.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return nil, err
	}
	if spec == nil {
		return nil, errors.New("config cannot be null")
	}
	return spec, checkProcess(spec.Process)
}

// checkProcess finds what no process can be without.
func checkProcess(p *specs.Process) error {
	switch {
	case p == nil:
		return errors.New("process property must not be empty")
	case p.Cwd == "":
		//lint:ignore ST1005 runc's text
		return errors.New("Cwd property must not be empty")
	case !filepath.IsAbs(p.Cwd):
		//lint:ignore ST1005 runc's text
		return errors.New("Cwd must be an absolute path")
	case len(p.Args) == 0:
		return errors.New("args must not be empty")
	}
	return nil
}
