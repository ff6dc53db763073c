package container

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/signals"
)

// proxy passes what the caller is sent on to the process, as docker does
// without a terminal. Before it is there, and once it is gone, they are meant
// for berth itself.
type proxy struct {
	caught *signals.Catcher // nil: none are passed on
	mu     sync.Mutex
	send   func(unix.Signal) bool // false: no process to send it to
	own    func()                 // gives up what berth is at
	early  unix.Signal            // came before the process, perhaps too late to give up
}

func newProxy(pass bool) (*proxy, error) {
	s := &proxy{}
	if !pass {
		return s, nil
	}
	var err error
	s.caught, err = signals.Catch(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGALRM, unix.SIGVTALRM)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			sig, err := s.caught.Next()
			if err != nil {
				return
			}
			s.pass(sig)
		}
	}()
	return s, nil
}

func (s *proxy) pass(sig unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.send != nil && s.send(sig) || sig == unix.SIGUSR1 || sig == unix.SIGUSR2 {
		return
	}
	if s.send == nil {
		s.early = sig
	}
	if s.own != nil {
		s.own()
	}
}

// forward tells where signals go from now on.
func (s *proxy) forward(send func(unix.Signal) bool, own func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send, s.own = send, own
	if send != nil && s.early != 0 {
		send(s.early)
	}
}

func (s *proxy) stop() {
	if s.caught != nil {
		s.caught.Close()
	}
}

// sendTo sends by a pidfd: a number may be another process's once this one has
// been waited for. False then, also after the descriptor was closed.
func sendTo(pidfd *os.File) func(unix.Signal) bool {
	return func(sig unix.Signal) bool {
		conn, err := pidfd.SyscallConn() // holds the descriptor open for the call
		if err != nil {
			return false
		}
		sent := false
		conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) == nil })
		return sent
	}
}
