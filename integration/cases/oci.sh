# The OCI face: what callers of an OCI runtime type and read.

# o: berth as berth-oci. bundle DIR ARG...: a bundle of the test's own busybox.
o() { "$TMP/berth-oci" --root "$TMP/oci-root" "$@"; }
bundle() {
	local dir=$1; shift
	ln -sf "$BERTH" "$TMP/berth-oci"
	mkdir -p "$dir/rootfs"/{bin,proc,sys,dev,tmp,etc}
	cp /bin/busybox "$dir/rootfs/bin/"
	for a in sh sleep echo true cat grep mkdir; do ln -sf busybox "$dir/rootfs/bin/$a"; done
	python3 - "$dir/config.json" "$@" <<'P'
import json, sys
json.dump({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "hostname": "box",
  "process": {"args": sys.argv[2:], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
    "capabilities": {k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")}},
  "annotations": {"a.b": "c"},
  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
  "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "network", "uts", "ipc", "cgroup")]}}, open(sys.argv[1], "w"))
P
}
field() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
# no CODE REGEX ARG...: it fails, and its one line of error matches.
no() {
	local code=$1 re=$2 rc=0
	shift 2
	o "$@" >"$TMP/o.out" 2>"$TMP/o.err" </dev/null || rc=$?
	eq "$rc" "$code" "exit status of berth-oci $*: $(<"$TMP/o.err")"
	like "$(<"$TMP/o.err")" "$re"
	eq "$(grep -c 'level=error' "$TMP/o.err")" 1 "lines of error: $(<"$TMP/o.err")"
}

t_oci_life() {
	bundle "$TMP/b" sleep 100
	o create --bundle "$TMP/b" --pid-file "$TMP/pid" ocilife </dev/null >/dev/null 2>&1
	eq "$(o state ocilife | field status)" created
	eq "$(o state ocilife | field pid)" "$(<"$TMP/pid")" "pid file"
	eq "$(o state ocilife | field bundle)" "$TMP/b"
	eq "$(o state ocilife | field annotations)" "{'a.b': 'c'}"
	eq "$(o exec ocilife cat /proc/sys/kernel/hostname)" box "exec in a created container"
	o start ocilife
	eq "$(o state ocilife | field status)" running
	eq "$(o list -q)" ocilife
	eq "$(o ps --format json ocilife)" "[$(<"$TMP/pid")]"
	local rc=0; o exec ocilife sh -c 'exit 3' || rc=$?; eq $rc 3 "exec"
	o exec -d --pid-file "$TMP/pid2" ocilife sleep 100 </dev/null >/dev/null 2>&1
	kill -0 "$(<"$TMP/pid2")"
	no 1 'cannot delete container ocilife that is not stopped: running' delete ocilife
	no 1 'cannot start an already running container' start ocilife
	o kill ocilife KILL
	local i; for i in $(seq 50); do [ "$(o state ocilife | field status)" = stopped ] && break; sleep 0.1; done
	eq "$(o state ocilife | field pid)" 0
	no 1 'container not running' kill ocilife 0
	no 255 'cannot exec in a stopped container' exec ocilife true
	o kill --all ocilife 9
	o delete ocilife
	eq "$(o list -f json)" null
	rm -r "$TMP/b" "$TMP/pid" "$TMP/pid2"
}
t_oci_errors() {
	bundle "$TMP/b" nosuch
	for c in state start kill delete pause resume; do no 1 'container does not exist' $c ocinone; done
	no 255 'container does not exist' exec ocinone true
	o delete --force ocinone || fail "delete --force of an unknown container"
	no 1 'invalid container ID format' create --bundle "$TMP/b" 'a/b'
	no 1 'executable file not found in \$PATH' create --bundle "$TMP/b" ocibad
	bundle "$TMP/b" /bin/nosuch
	no 1 'stat /bin/nosuch: no such file or directory' run --bundle "$TMP/b" ocibad
	bundle "$TMP/b" /etc
	no 1 'permission denied' run --bundle "$TMP/b" ocibad
	rm "$TMP/b/config.json"
	no 1 'JSON specification file config.json not found' run --bundle "$TMP/b" ocibad
	eq "$(ls "$TMP/oci-root" 2>/dev/null)" "" "left in the root"
	rm -r "$TMP/b"
}
t_oci_log() { # the last line of the log is what containerd and podman read
	bundle "$TMP/b" true
	no 1 '^time=.* level=error msg="?container does not exist"?$' state ocinone
	local rc=0
	o --log "$TMP/l" --log-format json state ocinone 2>"$TMP/o.err" || rc=$?
	eq $rc 1; eq "$(<"$TMP/o.err")" "container does not exist"
	eq "$(tail -n1 "$TMP/l" | field level)" error
	eq "$(tail -n1 "$TMP/l" | field msg)" "container does not exist"
	rm -r "$TMP/l" "$TMP/b"
}
t_oci_help() {
	bundle "$TMP/b" true
	local c
	for c in create start state kill delete exec run list ps pause resume update events checkpoint restore features spec; do
		o $c --help >"$TMP/o.out" 2>"$TMP/o.err" || fail "$c --help"
		like "$(<"$TMP/o.out")" "USAGE:"; eq "$(<"$TMP/o.err")" ""
	done
	like "$(o -h)" COMMANDS
	o features | field linux >/dev/null
	like "$("$TMP/berth-oci" --version)" '^berth-oci version'
	eq "$(o run --bundle "$TMP/b" ocirun; echo $?)" 0
	rm -r "$TMP/b"
}
# killed ID ARG...: the command, ended at some moment within its first milliseconds.
killed() {
	local id=$1 p; shift
	"$TMP/berth-oci" --root "$TMP/oci-root" "$@" </dev/null >/dev/null 2>&1 & p=$!
	sleep "0.0$(printf %02d $((RANDOM % 30)))"
	kill -KILL $p 2>/dev/null || true
	wait $p 2>/dev/null || true
	[ "$id" = - ] || swept "$id"
}
# swept ID: delete --force removes all there is: processes, cgroup, directory.
swept() {
	o delete --force "$1" || fail "delete --force $1 after a kill: $?"
	[ ! -e "$TMP/oci-root/$1" ] || fail "directory of $1: $(ls "$TMP/oci-root/$1")"
	local left; left=$(find /sys/fs/cgroup -type d -name "$1" 2>/dev/null || true)
	eq "$left" "" "cgroup of $1"
	o delete --force "$1" || fail "delete --force $1 again"
}
t_oci_killed() {
	bundle "$TMP/b" sleep 7654
	local i
	for i in $(seq 25); do
		killed ocikc create --bundle "$TMP/b" ocikc
		o create --bundle "$TMP/b" ociks </dev/null >/dev/null 2>&1
		killed - start ociks
		timeout 5 "$TMP/berth-oci" --root "$TMP/oci-root" start ociks 2>"$TMP/o.err" || like "$(<"$TMP/o.err")" 'already running|has stopped'
		killed - exec ociks sleep 7654
		killed ociks delete --force ociks
	done
	for i in $(seq 20); do # a process killed with its parent's may take a moment
		pgrep -f '^sleep 7654' >/dev/null || break
		sleep 0.1
	done
	if pgrep -f '^sleep 7654'; then fail "processes are left"; fi
	eq "$(ls "$TMP/oci-root")" ""
	rm -r "$TMP/b"
}
t_oci_descriptors() { # only those that are asked for
	bundle "$TMP/b" sh -c 'for f in 3 4 5 6 7 8; do [ -e /proc/$$/fd/$f ] && echo $f; done; cat <&3'
	echo passed >"$TMP/f"
	exec 3<"$TMP/f" 4<"$TMP/f" 7</
	eq "$(o run --bundle "$TMP/b" --preserve-fds 1 ocifd)" $'3\npassed'
	exec 3<&- 4<&- 7<&-
	no 1 'unable to stat preserved-fd' run --bundle "$TMP/b" --preserve-fds 99 ocifd
	rm -r "$TMP/b" "$TMP/f"
}

t_oci_propagation() { # what a container mounts shows on the host only if its root is shared too
	bundle "$TMP/b" sh -c 'mkdir -p /p/x; busybox mount -t tmpfs t /p/x; grep " /p " /proc/self/mountinfo'
	mkdir -p "$TMP/peer"
	mount -t tmpfs peer "$TMP/peer"
	mount --make-shared "$TMP/peer"
	local prop out
	for prop in "" rshared; do
		python3 - "$TMP/b/config.json" "$TMP/peer" "$prop" <<'P'
import json, sys
f, source, prop = sys.argv[1:]
c = json.load(open(f))
c["mounts"] = c["mounts"][:2] + [{"destination": "/p", "source": source, "options": ["rbind", "rshared"]}]
for s in c["process"]["capabilities"].values(): s[:] = ["CAP_SYS_ADMIN"]
if prop: c["linux"]["rootfsPropagation"] = prop
json.dump(c, open(f, "w"))
P
		out=$(o run --bundle "$TMP/b" ocipeer </dev/null)
		case $prop in
		"") like "$out" ' shared:[0-9]* master:[0-9]* '; [ ! -e "$TMP/peer/x" ] || ! mountpoint -q "$TMP/peer/x" || fail "the container's mount shows outside" ;;
		*) like "$out" ' shared:[0-9]* - '; mountpoint -q "$TMP/peer/x" || fail "the container's mount does not show outside"; umount "$TMP/peer/x" ;;
		esac
	done
	umount "$TMP/peer"
	rm -r "$TMP/peer" "$TMP/b"
}

t_oci_unprivileged() { # as a user without any right: one id is mapped, no cgroup
	local d=$TMP/u pid as="setpriv --reuid 1234 --regid 1234 --clear-groups"
	u() { $as "$d/berth-oci" --root "$d/root" "$@"; }
	mkdir -p "$d"
	install -m 755 "$BERTH" "$d/berth-oci"
	bundle "$d/b" sleep 100
	python3 - "$d/b/config.json" <<'P'
import json, sys
c = json.load(open(sys.argv[1]))
c["linux"]["namespaces"] = [{"type": t} for t in ("pid", "mount", "uts", "ipc", "user", "cgroup")]
c["linux"]["uidMappings"] = c["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 1234, "size": 1}]
json.dump(c, open(sys.argv[1], "w"))
P
	chown -R 1234:1234 "$d"
	u create --bundle "$d/b" --pid-file "$d/pid" ociu </dev/null >/dev/null 2>&1
	pid=$(<"$d/pid")
	eq "$(for f in /proc/$pid/fd/*; do readlink "$f"; done | grep "^$TMP" || true)" "" "a waiting container's descriptors lead to the host"
	eq "$(u exec ociu cat /proc/sys/kernel/hostname)" box "exec in a created container"
	u start ociu
	local rc=0; u exec ociu sh -c 'exit 3' || rc=$?; eq $rc 3 "exec"
	eq "$(u exec ociu cat /proc/self/uid_map | tr -s ' ')" " 0 1234 1"
	u delete --force ociu
	[[ ! -e /proc/$pid || $(</proc/$pid/stat) == *') Z '* ]] || fail "process $pid is there still"
	eq "$(ls "$d/root")" ""
	rm -r "$d"
}

t_oci_ignored() { # what cgroup v2 has no counterpart for is told
	bundle "$TMP/b" sleep 100
	python3 - "$TMP/b/config.json" <<'P'
import json, sys
c = json.load(open(sys.argv[1]))
c["linux"]["resources"] = {"network": {"classID": 5}}
json.dump(c, open(sys.argv[1], "w"))
P
	o --log "$TMP/log" create --bundle "$TMP/b" ociign </dev/null >/dev/null 2>&1
	like "$(<"$TMP/log")" 'level=warning msg="resources.network.classID'
	: >"$TMP/log"
	echo '{"network":{"priorities":[{"name":"lo","priority":1}]}}' | o --log "$TMP/log" update -r - ociign
	like "$(<"$TMP/log")" 'level=warning msg="resources.network.priorities'
	o delete --force ociign
	rm -r "$TMP/b" "$TMP/log"
}
