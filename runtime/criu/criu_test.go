package criu

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{ImagePath: dir, ParentPath: "/x"}, "--parent-path must be relative"},
		{Options{ImagePath: dir, ParentPath: "x"}, "invalid --parent-path: stat " + dir + "/x: no such file or directory"},
		{Options{ImagePath: dir, ParentPath: "file"}, "invalid --parent-path: stat " + dir + "/file: not a directory"},
		{Options{ImagePath: dir, PageServer: "x"}, "Use --page-server ADDRESS:PORT to specify page server"},
		{Options{ImagePath: dir, PageServer: "x:"}, "Use --page-server ADDRESS:PORT to specify page server"},
		{Options{ImagePath: dir, PageServer: "x:y"}, "Invalid port number"},
		{Options{ImagePath: dir, PageServer: "x:65536"}, "Invalid port number"},
		{Options{ImagePath: dir, EmptyNS: []string{"mount"}}, `namespace "mount" is not supported`},
		{Options{ImagePath: dir, ManageCgroups: "hard"}, "invalid manage-cgroups-mode value"},
	} {
		if err := c.o.Check(); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	ok := Options{ImagePath: filepath.Join(dir, "new"), ParentPath: "../", PageServer: "[::1]:27", EmptyNS: []string{"network"}, ManageCgroups: "soft"}
	if err := ok.Check(); err != nil {
		t.Error(err)
	}
}

// sent is the message as criu would read it.
func sent(t *testing.T, req *rpc.CriuReq) *rpc.CriuOpts {
	t.Helper()
	req.Opts.ImagesDirFd = new(int32(3)) // the request is not whole without
	b, err := req.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	got := &rpc.CriuReq{}
	if err := got.UnmarshalVT(b); err != nil {
		t.Fatal(err)
	}
	if got.GetType() != req.GetType() {
		t.Errorf("type %s became %s", req.GetType(), got.GetType())
	}
	return got.Opts
}

func TestDumpRequest(t *testing.T) {
	var net unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &net); err != nil {
		t.Fatal(err)
	}
	o := &Options{LeaveRunning: true, TCPEstablished: true, TCPSkipInFlight: true, LinkRemap: true, ExtUnixSk: true, ShellJob: true,
		FileLocks: true, AutoDedup: true, LazyPages: true, StatusFD: 7, PageServer: "[::1]:27", ManageCgroups: "ignore", ParentPath: "../p"}
	d := &Dump{Pid: 42, Root: "/r", Cgroup: "/sys/fs/cgroup/x", Annotations: map[string]string{"org.criu.config": "/my.conf"},
		Namespaces: []Namespace{{"net", "/proc/self/ns/net"}, {"ipc", "/proc/self/ns/ipc"}},
		Mounts:     []External{{"/data", "/data"}}, Files: []string{FileKey(0x1f, 0x5)}}
	req, err := d.request(o, 31701)
	if err != nil {
		t.Fatal(err)
	}
	got := sent(t, req)
	if req.GetType() != rpc.CriuReqType_DUMP || got.GetPid() != 42 || got.GetRoot() != "/r" || got.GetLogFile() != "dump.log" || got.GetLogLevel() != 4 ||
		got.GetConfigFile() != "/my.conf" || got.GetFreezeCgroup() != d.Cgroup || got.GetManageCgroupsMode() != rpc.CriuCgMode_IGNORE ||
		got.GetParentImg() != "../p" || !got.GetTrackMem() || got.GetPs().GetAddress() != "::1" || got.GetPs().GetPort() != 27 || got.GetEmptyNs() != unix.CLONE_NEWNET {
		t.Errorf("request: %v", got)
	}
	for name, b := range map[string]bool{"leave running": got.GetLeaveRunning(), "tcp": got.GetTcpEstablished(), "in flight": got.GetTcpSkipInFlight(),
		"link remap": got.GetLinkRemap(), "unix": got.GetExtUnixSk(), "shell job": got.GetShellJob(), "locks": got.GetFileLocks(), "dedup": got.GetAutoDedup(),
		"lazy": got.GetLazyPages(), "notify": got.GetNotifyScripts(), "terminal": got.GetOrphanPtsMaster(), "cgroups": got.GetManageCgroups()} {
		if !b {
			t.Errorf("%s is not asked for", name)
		}
	}
	want := []string{"net[" + itoa(net.Ino) + "]:extRootNetNS", "file[1f:5]"} // not ipc, which criu saves
	if !slices.Equal(got.GetExternal(), want) || len(got.GetExtMnt()) != 1 || got.GetExtMnt()[0].GetKey() != "/data" {
		t.Errorf("external: %q %v", got.GetExternal(), got.GetExtMnt())
	}
	if got.StatusFd != nil {
		t.Error("criu 3.15 and later tells by a notification when pages can be fetched")
	}
}

func itoa(n uint64) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

// What an option or a version leaves out must not be in the message at all.
func TestDumpRequestVaries(t *testing.T) {
	d := &Dump{Pid: 1, Root: "/r", Cgroup: "/c", Mounts: []External{{"/a", "/a"}}, Files: []string{"file[1:1]"}}
	req, err := d.request(&Options{PreDump: true, StatusFD: -1}, 31300)
	if err != nil {
		t.Fatal(err)
	}
	got := sent(t, req)
	if req.GetType() != rpc.CriuReqType_PRE_DUMP || got.ExtMnt != nil || got.External != nil || got.Ps != nil || got.ParentImg != nil || got.TrackMem != nil || got.StatusFd != nil {
		t.Errorf("pre-dump: %s %v", req.GetType(), got)
	}
	if got.FreezeCgroup != nil {
		t.Error("criu 3.13 does not know the freezer of cgroup v2")
	}
	if got.GetConfigFile() != "/etc/criu/runc.conf" || got.GetManageCgroupsMode() != rpc.CriuCgMode_DEFAULT {
		t.Errorf("defaults: %v", got)
	}
	d.Annotations = map[string]string{"org.criu.config": ""}
	if req, err = d.request(&Options{LazyPages: true, StatusFD: 9}, 31400); err != nil {
		t.Fatal(err)
	}
	if got = sent(t, req); got.ConfigFile != nil || got.GetStatusFd() != 9 || got.GetFreezeCgroup() != "/c" {
		t.Errorf("lazy pages: %v", got)
	}
	d.Namespaces = []Namespace{{"pid", "/proc/self/ns/pid"}}
	if _, err := d.request(&Options{}, 31400); err == nil || !strings.Contains(err.Error(), "criu lacks support for external pid namespace during checkpointing process") {
		t.Errorf("external pid namespace: %v", err)
	}
	if _, err := d.request(&Options{}, 31500); err != nil {
		t.Errorf("external pid namespace: %v", err)
	}
}

func TestRestoreRequest(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r := &Restore{Root: "/run/x/criu-root", Null: null,
		Namespaces:  []Namespace{{"net", "/proc/self/ns/net"}, {"uts", "/proc/self/ns/uts"}},
		Descriptors: []string{"/dev/pts/0", "pipe:[12]", "file[1:5]", "file[2:5]", "socket:[3]", "file[3:5]"}}
	req, extra, opened, err := r.request(&Options{LSMProfile: "apparmor:x", LSMMountContext: "y"}, 31701)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(opened...)
	got := sent(t, req)
	if req.GetType() != rpc.CriuReqType_RESTORE || got.GetRoot() != r.Root || got.GetLogFile() != "restore.log" || !got.GetRstSibling() || !got.GetEvasiveDevices() ||
		got.GetLsmProfile() != "apparmor:x" || got.GetLsmMountContext() != "y" || got.Pid != nil {
		t.Errorf("request: %v", got)
	}
	var fds []string
	for _, i := range got.GetInheritFd() {
		fds = append(fds, i.GetKey()+"="+itoa(uint64(i.GetFd())))
	}
	if want := []string{"extRootNetNS=4", "pipe:[12]=1", "file[1:5]=2", "file[2:5]=5", "file[3:5]=5"}; !slices.Equal(fds, want) {
		t.Errorf("inherited: %q, want %q", fds, want)
	}
	if len(extra) != 2 || len(opened) != 1 || extra[0] != opened[0] || extra[1] != null {
		t.Errorf("files: %v %v", extra, opened)
	}
	if j := got.GetJoinNs(); len(j) != 1 || j[0].GetNs() != "uts" || j[0].GetNsFile() != "/proc/self/ns/uts" {
		t.Errorf("joined: %v", j)
	}
	if got.GetEmptyNs() != unix.CLONE_NEWNET {
		t.Errorf("empty namespaces: %#x", got.GetEmptyNs())
	}
	r.Locked = true
	for want, o := range map[uint32]*Options{0: {}, unix.CLONE_NEWNET: {EmptyNS: []string{"network"}}} {
		req, _, opened, err := r.request(o, 31701)
		closeAll(opened...)
		if err != nil || req.Opts.GetEmptyNs() != want {
			t.Errorf("empty namespaces of one that is locked: %#x, want %#x; %v", req.Opts.GetEmptyNs(), want, err)
		}
	}
	if _, _, _, err := r.request(&Options{LSMProfile: "x"}, 31500); err == nil || err.Error() != "--lsm-profile requires at least CRIU 3.16" {
		t.Errorf("profile: %v", err)
	}
	for _, n := range []Namespace{{"cgroup", "/proc/self/ns/cgroup"}, {"net", "/proc/self/ns/none"}} {
		r.Namespaces = []Namespace{n}
		if _, _, _, err := r.request(&Options{}, 31701); err == nil {
			t.Errorf("namespace %v is no error", n)
		}
	}
}

func TestCgroupRoots(t *testing.T) {
	var got []string
	for _, r := range cgroupRoots("5:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n") {
		got = append(got, r.GetCtrl()+" "+r.GetPath())
	}
	if want := []string{"cpu /a", "cpuacct /a", "name=systemd /b:c", " /d"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDescriptors(t *testing.T) {
	dir := t.TempDir()
	want := []string{"", "pipe:[1]", "/dev/null"}
	if err := writeDescriptors(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readDescriptors(dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, descriptorsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readDescriptors(dir); err == nil || !strings.Contains(err.Error(), descriptorsFile) {
		t.Errorf("a broken file: %v", err)
	}
}

func TestQuoteErrors(t *testing.T) {
	var log strings.Builder
	for i := 1; i <= 30; i++ {
		switch i {
		case 8, 9, 25:
			log.WriteString("Error " + itoa(uint64(i)) + "\n")
		default:
			log.WriteString("line\n")
		}
	}
	quote, cause := quoteErrors(bufio.NewScanner(strings.NewReader(log.String())))
	want := []string{"3:line", "4:line", "5:line", "6:line", "7:line", "8:Error 8", "9:Error 9", "...",
		"20:line", "21:line", "22:line", "23:line", "24:line", "25:Error 25"}
	if cause != "Error 8" || !slices.Equal(quote, want) {
		t.Errorf("%q\n%q", cause, quote)
	}
	if quote, cause := quoteErrors(bufio.NewScanner(strings.NewReader("all is well\n"))); quote != nil || cause != "" {
		t.Errorf("of nothing: %q %q", quote, cause)
	}
}
