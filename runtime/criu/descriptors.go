package criu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// descriptorsFile lies beside the images, in runc's form: a list of strings, what
// /proc/PID/fd/N of the container's first process says for its three streams. In
// place of the path of a file that is the host's there is the name that criu has
// for it. Such names after the third are files that are the host's /dev/null.
const descriptorsFile = "descriptors.json"

// FileKey is criu's name for an open file of a mount that the container has not.
func FileKey(mount int, inode uint64) string { return fmt.Sprintf("file[%x:%x]", mount, inode) }

func isFile(key string) bool { return strings.HasPrefix(key, "file[") }
func isPipe(key string) bool { return strings.Contains(key, "pipe:") }

func writeDescriptors(dir string, list []string) error {
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, descriptorsFile), b, 0o600)
}

func readDescriptors(dir string) (list []string, err error) {
	b, err := os.ReadFile(filepath.Join(dir, descriptorsFile))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, descriptorsFile), err)
	}
	return list, nil
}
