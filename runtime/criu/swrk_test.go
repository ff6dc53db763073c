package criu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

// TestMain plays criu when the test binary is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "criu" {
		os.Exit(fake(os.Getenv("FAKE_CRIU")))
	}
	os.Exit(m.Run())
}

// fake answers one request, as the test wants it.
func fake(how string) int {
	if how == "dies" {
		return 3
	}
	buf := make([]byte, 64<<10)
	n, err := unix.Read(3, buf)
	if err != nil {
		return 1
	}
	req := &rpc.CriuReq{}
	if req.UnmarshalVT(buf[:n]) != nil {
		return 1
	}
	switch {
	case req.GetType() == rpc.CriuReqType_VERSION:
		v := &rpc.CriuVersion{MajorNumber: new(int32(3)), MinorNumber: new(int32(17)), Sublevel: new(int32(1))}
		if how == "old" {
			v.MajorNumber = new(int32(2))
		}
		if how == "git" {
			v.Gitid = new("v3.17.1-5")
		}
		say(&rpc.CriuResp{Type: req.Type, Success: new(true), Version: v})
	case req.GetType() == rpc.CriuReqType_FEATURE_CHECK:
		say(&rpc.CriuResp{Type: req.Type, Success: new(true), Features: &rpc.CriuFeatures{MemTrack: new(how != "weak"), LazyPages: new(how != "weak")}})
	case how == "refuses":
		say(&rpc.CriuResp{Type: req.Type, Success: new(false), CrErrno: new(int32(52))})
	default:
		return fakeWork(req, how)
	}
	return 0
}

func fakeWork(req *rpc.CriuReq, how string) int {
	scripts := []string{"network-lock", "status-ready", "post-dump"}
	if req.GetType() == rpc.CriuReqType_RESTORE {
		scripts = []string{"setup-namespaces", "orphan-pts-master", "post-restore"}
	}
	buf := make([]byte, 4096)
	for _, s := range scripts {
		var oob []byte
		if s == "orphan-pts-master" {
			r, w, err := os.Pipe()
			if err != nil {
				return 1
			}
			fmt.Fprint(w, "the terminal")
			w.Close()
			oob = unix.UnixRights(int(r.Fd()))
		}
		b, _ := (&rpc.CriuResp{Type: rpc.CriuReqType_NOTIFY.Enum(), Success: new(true), Notify: &rpc.CriuNotify{Script: &s, Pid: new(int32(77))}}).MarshalVT()
		if unix.Sendmsg(3, b, oob, nil, 0) != nil {
			return 1
		}
		n, err := unix.Read(3, buf)
		ack := &rpc.CriuReq{}
		if err != nil || n == 0 || ack.UnmarshalVT(buf[:n]) != nil || !ack.GetNotifySuccess() {
			return 1
		}
	}
	if how == "vanishes" {
		return 0
	}
	say(&rpc.CriuResp{Type: req.Type, Success: new(true)})
	if how == "fails late" {
		return 1
	}
	return 0
}

func say(r *rpc.CriuResp) {
	b, err := r.MarshalVT()
	if err == nil {
		_, err = unix.Write(3, b)
	}
	if err != nil {
		os.Exit(1)
	}
}

// play puts the fake criu in front of all others.
func play(t *testing.T, how string) (*Criu, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "criu")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("FAKE_CRIU", how)
	return Find(context.Background())
}

func TestFind(t *testing.T) {
	if c, err := play(t, ""); err != nil || c.Version != 31701 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := play(t, "git"); err != nil || c.Version != 31800 {
		t.Errorf("made of sources: %+v, %v", c, err)
	}
	if _, err := play(t, "old"); err == nil || err.Error() != "CRIU version 21701 must be 30000 or higher" {
		t.Errorf("an old one: %v", err)
	}
	if _, err := play(t, "dies"); err == nil || !strings.HasPrefix(err.Error(), "CRIU version check failed: ") {
		t.Errorf("one that dies: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Find(context.Background()); err == nil || err.Error() != `CRIU version check failed: exec: "criu": executable file not found in $PATH` {
		t.Errorf("none: %v", err)
	}
}

func TestDumpConversation(t *testing.T) {
	c, err := play(t, "")
	if err != nil {
		t.Fatal(err)
	}
	ready, status, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	fd, err := unix.Dup(int(status.Fd())) // which Dump closes
	status.Close()
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{ImagePath: t.TempDir(), WorkPath: filepath.Join(t.TempDir(), "work"), LazyPages: true, StatusFD: fd}
	if err := c.Dump(context.Background(), o, &Dump{Pid: 1}, []string{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(ready); err != nil || !slices.Equal(b, []byte{0}) {
		t.Errorf("the status descriptor got %q, %v", b, err)
	}
	if d, err := readDescriptors(o.ImagePath); err != nil || len(d) != 3 {
		t.Errorf("descriptors: %q, %v", d, err)
	}
	if _, err := os.Stat(o.WorkPath); err != nil {
		t.Error(err)
	}
}

func TestDumpFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, dumpLog), []byte("fine\nError (x.c:1): no room\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, dumpLog)
	for how, want := range map[string]string{
		"refuses":    "criu failed: type DUMP errno 52: Error (x.c:1): no room (log file: " + log + ")",
		"vanishes":   "receive from criu: unexpected EOF: Error (x.c:1): no room (log file: " + log + ")",
		"fails late": "criu failed: exit status 1: Error (x.c:1): no room (log file: " + log + ")",
	} {
		c, err := play(t, how)
		if err != nil {
			t.Fatal(err)
		}
		var warned []string
		c.Warn = func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) }
		if err := c.Dump(context.Background(), &Options{ImagePath: dir, StatusFD: -1}, &Dump{Pid: 1}, nil); err == nil || err.Error() != want {
			t.Errorf("one that %s: %v", how, err)
		}
		if want := []string{fmt.Sprintf("--- Quoting %q", log), "1:fine", "2:Error (x.c:1): no room", "---"}; !slices.Equal(warned, want) {
			t.Errorf("warned: %q", warned)
		}
	}
	c, err := play(t, "fails late") // which is nothing to a pre-dump
	if err == nil {
		err = c.Dump(context.Background(), &Options{ImagePath: dir, PreDump: true}, &Dump{Pid: 1}, nil)
	}
	if err != nil {
		t.Errorf("pre-dump: %v", err)
	}
	if c, err = play(t, "weak"); err != nil {
		t.Fatal(err)
	}
	for o, want := range map[*Options]string{{ImagePath: dir, PreDump: true}: "MemTrack", {ImagePath: dir, LazyPages: true}: "LazyPages"} {
		if err := c.Dump(context.Background(), o, &Dump{Pid: 1}, nil); err == nil || err.Error() != "criu is missing features: ["+want+"]" {
			t.Errorf("without %s: %v", want, err)
		}
	}
}

func TestStatusFD(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for fd, want := range map[int]string{9999: "invalid --status-fd argument 9999: ", int(r.Fd()): ": not writable", int(w.Fd()): "", -1: ""} {
		err := (&Options{LazyPages: true, StatusFD: fd}).checkStatusFD()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d: %v", fd, err)
		}
	}
}

func TestRestoreConversation(t *testing.T) {
	c, err := play(t, "")
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{ImagePath: t.TempDir()}
	if err := writeDescriptors(o.ImagePath, []string{"", "", ""}); err != nil {
		t.Fatal(err)
	}
	var told []string
	tell := func(what string, err error) func(int) error {
		return func(pid int) error {
			if pid != 77 {
				what = "criu" // itself
			}
			told = append(told, what)
			return err
		}
	}
	e := Events{
		Start:      func(begin func() error) ([]External, error) { return nil, begin() },
		Started:    tell("started", nil),
		Namespaces: tell("namespaces", nil),
		Terminal: func(f *os.File) error {
			defer f.Close()
			b, err := io.ReadAll(f)
			told = append(told, string(b))
			return err
		},
		Restored: tell("restored", nil),
	}
	if err := c.Restore(context.Background(), o, &Restore{}, e); err != nil {
		t.Fatal(err)
	}
	if want := []string{"criu", "namespaces", "the terminal", "restored"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	refused := errors.New("refused")
	e.Namespaces = tell("namespaces", refused)
	if err := c.Restore(context.Background(), o, &Restore{}, e); !errors.Is(err, refused) {
		t.Errorf("a caller's error: %v", err)
	}
	e.Start = func(func() error) ([]External, error) { return nil, refused }
	if err := c.Restore(context.Background(), o, &Restore{}, e); !errors.Is(err, refused) {
		t.Errorf("a caller's error before criu: %v", err)
	}
}
