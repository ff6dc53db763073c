package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

// session is one criu that serves one request over a socket, "criu swrk"
// (criu.org/RPC). go-criu has the messages; its own session neither takes the
// descriptors that come with a notification nor starts criu where we want it.
type session struct {
	cmd    *exec.Cmd
	socket int
}

// begin starts criu; start does the starting, nil is cmd.Start.
func begin(ctx context.Context, streams [maxStreams]*os.File, extra []*os.File, start func(*exec.Cmd) error) (*session, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	s := &session{cmd: exec.CommandContext(ctx, "criu", "swrk", "3"), socket: pair[0]}
	for i, to := range []func(*os.File){
		func(f *os.File) { s.cmd.Stdin = f },
		func(f *os.File) { s.cmd.Stdout = f },
		func(f *os.File) { s.cmd.Stderr = f },
	} {
		if streams[i] != nil {
			to(streams[i])
		}
	}
	server := os.NewFile(uintptr(pair[1]), "criu")
	s.cmd.ExtraFiles = append([]*os.File{server}, extra...)
	if start == nil {
		start = (*exec.Cmd).Start
	}
	err = start(s.cmd)
	server.Close() // else the end of criu would not be the end of the conversation
	if err != nil {
		unix.Close(s.socket)
		return nil, err
	}
	return s, nil
}

// end lets criu go, and undo what it did if it was not done, and reaps it.
func (s *session) end() error {
	unix.Close(s.socket)
	return s.cmd.Wait()
}

// Failed is criu's answer that something could not be done; why is in its log.
type Failed struct {
	Type  rpc.CriuReqType
	Errno int32
}

func (e *Failed) Error() string { return fmt.Sprintf("criu failed: type %s errno %d", e.Type, e.Errno) }

// ask sends a request and returns the answer to it; on is called for each
// notification before that, with the descriptor that came with it, if any, which
// it closes.
func (s *session) ask(req *rpc.CriuReq, on func(n *rpc.CriuNotify, f *os.File) error) (*rpc.CriuResp, error) {
	for {
		if err := s.send(req); err != nil {
			return nil, err
		}
		resp, file, err := s.receive()
		if err != nil {
			return nil, err
		}
		t := resp.GetType()
		switch {
		case !resp.GetSuccess():
			err = &Failed{t, resp.GetCrErrno()}
		case t != rpc.CriuReqType_NOTIFY:
			closeAll(file)
			return resp, nil
		case resp.GetNotify() == nil || on == nil:
			err = fmt.Errorf("unable to parse the response of type %s", t)
		default:
			err = on(resp.GetNotify(), file)
			file = nil
		}
		closeAll(file)
		if err != nil {
			return nil, err
		}
		req = &rpc.CriuReq{Type: rpc.CriuReqType_NOTIFY.Enum(), NotifySuccess: new(true)}
	}
}

func (s *session) send(req *rpc.CriuReq) error {
	b, err := req.MarshalVT()
	if err != nil {
		return err
	}
	if err := unix.Sendto(s.socket, b, unix.MSG_NOSIGNAL, nil); err != nil {
		return fmt.Errorf("send to criu: %w", err)
	}
	return nil
}

func (s *session) receive() (*rpc.CriuResp, *os.File, error) {
	buf, oob := make([]byte, 64<<10), make([]byte, 256)
	n, oobn, flags := 0, 0, 0
	for {
		var err error
		n, oobn, flags, _, err = unix.Recvmsg(s.socket, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return nil, nil, fmt.Errorf("receive from criu: %w", err)
		}
	}
	file, err := received(oob[:oobn])
	if err == nil && n == 0 {
		err = errors.New("receive from criu: unexpected EOF")
	}
	if err == nil && flags&unix.MSG_TRUNC != 0 {
		err = errors.New("receive from criu: the message is too long")
	}
	resp := &rpc.CriuResp{}
	if err == nil {
		err = resp.UnmarshalVT(buf[:n])
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, nil, err
	}
	return resp, file, nil
}

// received takes the descriptor out of SCM_RIGHTS (unix(7)); nil: there is none.
func received(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("receive from criu: %w", err)
	}
	var file *os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil { // credentials, for one
			continue
		}
		for _, fd := range fds {
			if file != nil { // more than one was never sent
				unix.Close(fd)
				continue
			}
			// So that Go's poller can wait for it and Close ends a Read.
			unix.SetNonblock(fd, true)
			file = os.NewFile(uintptr(fd), "criu")
		}
	}
	return file, nil
}
