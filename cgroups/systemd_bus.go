package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busName     = "org.freedesktop.systemd1"
	busPath     = "/org/freedesktop/systemd1"
	busIface    = busName + ".Manager"
	busPatience = 30 * time.Second // for all that one of our functions asks
)

// bus is a connection to the manager of units (org.freedesktop.systemd1(5)).
type bus struct {
	conn   *dbus.Conn
	ctx    context.Context
	cancel context.CancelFunc
	direct bool // to systemd itself, no daemon between
}

// userBus is where an unprivileged user's systemd is reached.
func userBus() (string, error) {
	if a := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" {
		return a, nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if at := filepath.Join(dir, "bus"); exists(at) {
			return "unix:path=" + dbus.EscapeBusAddressValue(at), nil
		}
		if at := filepath.Join(dir, "systemd/private"); exists(at) {
			return "unix:path=" + dbus.EscapeBusAddressValue(at), nil
		}
	}
	return "", errors.New("there is no bus of the user's systemd: neither DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR/bus " +
		"(install dbus-user-session and log in again, or loginctl enable-linger)")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// direct ends the address of systemd's own socket, which speaks the same
// protocol without the bus' handshake. systemctl uses it, too.
const direct = "/systemd/private"

// dialBus connects to the system's systemd, or to that of the user at an address.
func dialBus(user string) (*bus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), busPatience)
	b := &bus{ctx: ctx, cancel: cancel}
	addresses := []string{user}
	if user == "" {
		addresses = systemBuses()
	}
	var errs []error
	for _, a := range addresses {
		err := b.dial(a)
		if err == nil {
			return b, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", a, err))
	}
	cancel()
	return nil, fmt.Errorf("connect to systemd: %w", errors.Join(errs...))
}

func systemBuses() []string {
	bus := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	if bus == "" {
		bus = "unix:path=/run/dbus/system_bus_socket"
	}
	if os.Geteuid() != 0 {
		return []string{bus}
	}
	return []string{bus, "unix:path=/run" + direct}
}

// dial says who it is by the credentials of the socket alone, so that it works
// from inside a user namespace, whose uids the other end does not know.
func (b *bus) dial(address string) error {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		conn, err := dbus.Dial(address, dbus.WithContext(b.ctx))
		if err == nil {
			b.conn, b.direct = conn, strings.HasSuffix(address, direct)
			if err = conn.Auth(nil); err == nil && !b.direct {
				err = conn.Hello()
			}
			if err != nil {
				conn.Close()
			}
		}
		// The queue of a socket is full when many containers start at once.
		if !errors.Is(err, syscall.EAGAIN) || b.ctx.Err() != nil || wait > busPatience/2 {
			return err
		}
		time.Sleep(wait)
	}
}

func (b *bus) close() {
	b.conn.Close()
	b.cancel()
}

func (b *bus) call(method string, args ...any) *dbus.Call {
	return b.conn.Object(busName, busPath).CallWithContext(b.ctx, busIface+"."+method, 0, args...)
}

// job runs a method that answers with a job, and waits until systemd has done
// it. The result is "done" if all is well.
func (b *bus) job(unit, method string, args ...any) (string, error) {
	removed := make(chan *dbus.Signal, 64)
	b.conn.Signal(removed)
	defer b.conn.RemoveSignal(removed)
	if !b.direct { // before the call, or the signal may be missed
		match := []dbus.MatchOption{dbus.WithMatchInterface(busIface), dbus.WithMatchMember("JobRemoved"),
			dbus.WithMatchObjectPath(busPath), dbus.WithMatchArg(2, unit)}
		if err := b.conn.AddMatchSignalContext(b.ctx, match...); err != nil {
			return "", err
		}
		defer b.conn.RemoveMatchSignal(match...)
	}
	var job dbus.ObjectPath
	if err := b.call(method, args...).Store(&job); err != nil {
		return "", err
	}
	for {
		select {
		case s := <-removed:
			var id uint32
			var path dbus.ObjectPath
			var of, result string
			if s == nil { // the connection is closed
				return "", dbus.ErrClosed
			}
			if s.Name == busIface+".JobRemoved" && dbus.Store(s.Body, &id, &path, &of, &result) == nil && path == job {
				return result, nil
			}
		case <-b.ctx.Done():
			return "", fmt.Errorf("no answer after %v", busPatience)
		case <-b.conn.Context().Done():
			return "", dbus.ErrClosed
		}
	}
}

// start makes a transient unit. A failed one of the same name that nobody
// cleared away is no reason not to.
func (b *bus) start(unit string, props []property) error {
	type auxiliary struct {
		Name  string
		Props []property
	}
	for again := false; ; again = true {
		result, err := b.job(unit, "StartTransientUnit", unit, "replace", props, []auxiliary{})
		if isBusError(err, "UnitExists") && !again {
			b.reset(unit)
			continue
		}
		if err != nil {
			return fmt.Errorf("start the systemd unit %s: %w", unit, err)
		}
		if result != "done" {
			b.reset(unit)
			return fmt.Errorf("start the systemd unit %s: its job ended as %q (journalctl -u %s)", unit, result, unit)
		}
		return nil
	}
}

// stop ends a unit, and forgets that it failed; one that is gone is no error.
func (b *bus) stop(unit string) error {
	_, err := b.job(unit, "StopUnit", unit, "replace")
	b.reset(unit)
	if err != nil && !isBusError(err, "NoSuchUnit") {
		return fmt.Errorf("stop the systemd unit %s: %w", unit, err)
	}
	return nil
}

func (b *bus) reset(unit string) { b.call("ResetFailedUnit", unit) }

// version is that of systemd; 0 if it does not say.
func (b *bus) version() int {
	v, err := b.conn.Object(busName, busPath).GetProperty(busIface + ".Version")
	if err != nil {
		return 0
	}
	s, _ := v.Value().(string)
	n := 0
	for _, c := range strings.TrimLeft(s, "v") { // "252.39-1~deb12u1", "v245", "257"
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func isBusError(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && strings.HasSuffix(e.Name, "."+name)
}
