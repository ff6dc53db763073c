package container

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ParseSignal takes 9, KILL, SIGKILL, kill, RTMIN+3 (signal(7)).
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	for base, num := range map[string]int{"SIGRTMIN": 34, "SIGRTMAX": 64} {
		if off, ok := strings.CutPrefix(name, base); ok {
			n, err := 0, error(nil)
			if off != "" {
				n, err = strconv.Atoi(off)
			}
			if err == nil && num+n >= 34 && num+n <= 64 {
				return syscall.Signal(num + n), nil
			}
		}
	}
	return 0, fmt.Errorf("invalid signal: %s", s)
}
