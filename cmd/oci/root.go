package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// defaultRoot is not runc's: neither reads the other's state.
const defaultRoot = "/run/berth-oci"

// setRoot decides where the state of containers is kept.
func (c *call) setRoot(given *string) error {
	if c.rootSet = given != nil; c.rootSet {
		root, err := filepath.Abs(*given)
		if err != nil {
			return err
		}
		if root == "/" {
			//lint:ignore ST1005 runc's text
			return errors.New("Option --root argument should not be set to /")
		}
		c.store.Root = root
		return nil
	}
	c.store.Root = defaultRoot
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); xdg != "" && ownRuntimeDir() {
		c.store.Root = xdg + "/berth-oci"
		return stickyDir(c.store.Root)
	}
	return nil
}

// stickyDir makes a directory in XDG_RUNTIME_DIR that is not cleared away
// there: what has the sticky bit stays (XDG Base Directory Specification).
func stickyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the path in $XDG_RUNTIME_DIR must be writable by the user: %w", err)
	}
	if err := os.Chmod(dir, 0o700|os.ModeSticky); err != nil {
		return fmt.Errorf("check the permissions of the path in $XDG_RUNTIME_DIR: %w", err)
	}
	return nil
}

// ownRuntimeDir tells whether XDG_RUNTIME_DIR counts. It does not for root, who
// may have that of the user who called sudo; root of a user namespace is such a user.
func ownRuntimeDir() bool {
	if os.Geteuid() != 0 {
		return true
	}
	user, set := os.LookupEnv("USER")
	return inUserNamespace() && (!set || user != "root")
}

// inUserNamespace: the initial one maps all ids to themselves (user_namespaces(7)).
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !initialMap(string(b))
}

func initialMap(uidMap string) bool {
	f := strings.Fields(uidMap)
	return len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295"
}

// rootless reads --rootless: whether it is no error that cgroups may not be used.
func rootless(s string) (bool, error) {
	if s == "" || strings.EqualFold(s, "auto") {
		return os.Geteuid() != 0 || inUserNamespace(), nil
	}
	return strconv.ParseBool(s)
}
