package cmd

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/image"
)

func TestChange(t *testing.T) {
	cfg := image.Config{Env: []string{"PATH=/bin", "A=0"}}
	for _, line := range []string{
		`CMD ["cat", "/x y"]`, "ENTRYPOINT exec thing", `ENV A=1 B="two words" C=a\ b`, "ENV D old form", "LABEL x=y",
		"EXPOSE 80 53/udp", "VOLUME /v /w", "workdir /srv", "USER app", "STOPSIGNAL SIGUSR1",
	} {
		if err := change(&cfg, line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	got, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"User":"app","ExposedPorts":{"53/udp":{},"80/tcp":{}},"Env":["PATH=/bin","A=1","B=two words","C=a b","D=old form"],` +
		`"Entrypoint":["/bin/sh","-c","exec thing"],"Cmd":["cat","/x y"],"Volumes":{"/v":{},"/w":{}},"WorkingDir":"/srv","Labels":{"x":"y"},"StopSignal":"SIGUSR1"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{"", "RUN x", "CMD", "ENV A=1 B", "LABEL =x"} {
		if change(&cfg, bad) == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestWriteTar(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/d/sub", 0o750))
	must(os.WriteFile(dir+"/d/file", []byte("content"), 0o640))
	must(os.Link(dir+"/d/file", dir+"/d/second"))
	must(os.Symlink("../../../etc/passwd", dir+"/d/link"))
	must(unix.Mkfifo(dir+"/fifo", 0o600))
	var b bytes.Buffer
	root, err := os.Open(dir)
	must(err)
	defer root.Close()
	must(writeTar(&b, root))
	var got []string
	r := tar.NewReader(&b)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(err)
		got = append(got, string(h.Typeflag)+" "+h.Name+" "+h.Linkname)
		if h.Name == "d/file" {
			if c, _ := io.ReadAll(r); string(c) != "content" || h.Mode != 0o640 {
				t.Errorf("d/file: %q, mode %o", c, h.Mode)
			}
		}
	}
	want := "5 d/ |0 d/file |2 d/link ../../../etc/passwd|1 d/second d/file|5 d/sub/ |6 fifo "
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

// What the archive says of a name and what it holds must be of the same file,
// though a container swaps it for another kind all the time.
func TestWriteTarOfWhatChanges(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/a", []byte("content"), 0o600), unix.Mkfifo(dir+"/b", 0o600)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 3000 {
		var b bytes.Buffer
		root, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = writeTar(&b, root)
		root.Close()
		if err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(&b)
		for {
			h, err := r.Next()
			if err != nil {
				break
			}
			if got, _ := io.ReadAll(r); h.Typeflag == tar.TypeReg && string(got) != "content" {
				t.Fatalf("%s holds %q", h.Name, got)
			}
		}
	}
}

// A file that could not be written whole must not be there.
func TestToFile(t *testing.T) {
	a := &app{out: &results{w: io.Discard}, errw: io.Discard}
	name := filepath.Join(t.TempDir(), "out.tar")
	err := a.toFile(name, "", func(w io.Writer) error { io.WriteString(w, "half"); return io.ErrUnexpectedEOF })
	if left, _ := os.ReadDir(filepath.Dir(name)); err == nil || len(left) != 0 {
		t.Errorf("after an error: %v, %v", left, err)
	}
	err = a.toFile(name, "", func(w io.Writer) error { _, err := io.WriteString(w, "whole"); return err })
	if b, _ := os.ReadFile(name); err != nil || string(b) != "whole" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestTop(t *testing.T) {
	p, ok := readProcess(os.Getpid())
	if !ok {
		t.Fatal("cannot read the own process")
	}
	got := p.columns(strings.Fields("pid ppid stat comm time"))
	if got[0] == "" || got[1] == "0" || !strings.Contains("RSD", got[2]) || got[3] == "" || !strings.HasPrefix(got[4], "00:") {
		t.Errorf("got %q", got)
	}
	for args, want := range map[string]string{
		"": "uid pid ppid stat stime tty time args", "aux": "uid pid ppid stat stime tty time args", "-o pid,cmd": "pid args", "-opid": "pid",
	} {
		c, err := topColumns(strings.Fields(args))
		if err != nil || strings.Join(c, " ") != want {
			t.Errorf("%q: got %v, %v", args, c, err)
		}
	}
	if _, err := topColumns([]string{"-o", "nope"}); err == nil {
		t.Error("no error for an unknown column")
	}
}

// Whatever package cmd links is paid for by every command.
func TestLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", "urfave_cli_no_docs", "-deps", ".").Output()
	if err != nil {
		t.Skip("no go command here: ", err)
	}
	for _, heavy := range []string{"net/http", "crypto/tls", "github.com/google/go-containerregistry", "github.com/opencontainers/go-digest", "github.com/cilium/ebpf"} {
		for dep := range strings.FieldsSeq(string(out)) {
			if dep == heavy || strings.HasPrefix(dep, heavy+"/") {
				t.Errorf("package cmd links %s", dep)
			}
		}
	}
}
