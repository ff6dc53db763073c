package container

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// signals passes what the caller is sent on to the process, as docker does
// without a terminal. Before it is there, and once it is gone, they are meant
// for berth itself.
type signals struct {
	ch    chan os.Signal
	mu    sync.Mutex
	send  func(unix.Signal) bool // false: no process to send it to
	own   func()                 // gives up what berth is at
	early unix.Signal            // came before the process, perhaps too late to give up
}

func newSignals(proxy bool) *signals {
	s := &signals{}
	if !proxy {
		return s
	}
	s.ch = make(chan os.Signal, 16)
	signal.Notify(s.ch, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGALRM, unix.SIGPROF, unix.SIGVTALRM)
	go func() {
		for sig := range s.ch {
			s.pass(sig.(unix.Signal))
		}
	}()
	return s
}

func (s *signals) pass(sig unix.Signal) {
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
func (s *signals) forward(send func(unix.Signal) bool, own func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send, s.own = send, own
	if send != nil && s.early != 0 {
		send(s.early)
	}
}

func (s *signals) stop() {
	if s.ch != nil {
		signal.Stop(s.ch)
		close(s.ch)
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
