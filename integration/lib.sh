# Helpers of the black-box tests; sourced. A case is a function t_NAME: it fails
# by calling fail, or through any command that fails; skip ends it with a reason.

fail() { echo "# $*" >&2; exit 1; }
skip() { echo "$*" >"$TMP/reason"; exit 77; }
eq() { [ "$1" = "$2" ] || fail "got '$1', want '$2'${3:+: $3}"; }
like() { [[ $1 =~ $2 ]] || fail "'$1' does not match /$2/"; }

# b: berth with the test's own root. try: the same, keeping out, err and rc.
b() { "$BERTH" --root "$ROOT" "$@"; }
try() {
	rc=0
	b "$@" >"$TMP/out" 2>"$TMP/err" </dev/null || rc=$?
	out=$(<"$TMP/out") err=$(<"$TMP/err")
}
# refuse CODE REGEX ARG...: exits with CODE, one line of error that matches, nothing on stdout.
refuse() {
	local code=$1 re=$2
	shift 2
	try "$@"
	eq "$rc" "$code" "exit code of berth $*; stderr: $err"
	eq "$out" "" "stdout"
	like "$err" "$re"
	eq "$(grep -c 'berth: error:' <<<"$err")" 1 "lines of error: $err"
}

# image NAME: a docker-archive of busybox, written by python's tarfile.
image() {
	python3 - "$1" "$2" <<'P'
import hashlib, io, json, subprocess, sys, tarfile
name, path = sys.argv[1:]
bb = open("/bin/busybox", "rb").read()
buf = io.BytesIO()
t = tarfile.open(fileobj=buf, mode="w")
def add(n, data=None, type=tarfile.REGTYPE, mode=0o755, link=""):
    i = tarfile.TarInfo(n); i.type, i.mode, i.linkname = type, mode, link
    if data is not None: i.size = len(data)
    t.addfile(i, io.BytesIO(data) if data is not None else None)
for d in "bin etc proc sys dev tmp root".split(): add(d, type=tarfile.DIRTYPE)
add("bin/busybox", bb)
for a in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
    if a != "busybox": add("bin/" + a, type=tarfile.SYMTYPE, link="busybox")
add("bin/plain", b"x", mode=0o644)
add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n", mode=0o644)
add("etc/group", b"root:x:0:\napp:x:1000:\n", mode=0o644)
t.close()
layer = buf.getvalue()
sha = lambda x: hashlib.sha256(x).hexdigest()
cfg = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
                  "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(layer)]}}).encode()
o = tarfile.open(path, "w")
def put(n, data):
    i = tarfile.TarInfo(n); i.size = len(data); o.addfile(i, io.BytesIO(data))
put("layer.tar", layer); put("config.json", cfg)
put("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode())
o.close()
P
}

# leftovers: what a container could leave on this machine; compared before and
# after. The rules of the table itself, which prune removes and the next run makes
# anew, are none of a container. Devices and namespaces go some milliseconds after the last process.
leftovers() {
	awk '{print "mount", $5}' /proc/self/mountinfo
	{ find /sys/fs/cgroup -type d -path '*berth/*' || true; } 2>/dev/null | sed 's/^/cgroup /'
	ip -o link | awk -F'[: ]+' '/vb[0-9a-f]/ {print "link", $2}'
	{ nft list ruleset || true; } 2>/dev/null | sed -nE '/@published|ct status dnat/d; s/.*(elements|dnat)/rule &/p'
	{ find "$ROOT/containers" "$ROOT/names" "$ROOT/net" -mindepth 1 || true; } 2>/dev/null | sed '/lock/d; s/^/file /'
}
clean() {
	local i new
	for i in $(seq 50); do
		leftovers >"$TMP/after"
		new=$(comm -13 <(sort "$TMP/before") <(sort "$TMP/after"))
		[ -n "$new" ] || return 0
		sleep 0.1
	done
	fail "left behind: $new"
}

# attempt CASE: runs it and sets status. Not in an if or before || or &&: there
# bash ignores set -e, in all that is called, and a failing command in the middle
# would go unseen.
attempt() {
	(
		set -eE
		trap 'echo "# failed: $BASH_COMMAND (line $LINENO of the case)" >&2' ERR
		"$1"
		clean
	) >"$TMP/log" 2>&1
	status=$?
}
_broken() { false; true; }

# cases PREFIX REGEX: all that match; TAP, then the numbers. False if one failed or none ran.
cases() {
	local t ok=0 bad=0 skipped=0
	leftovers >"$TMP/before"
	attempt _broken
	[ $status != 0 ] || { echo "not ok - a case with a failing command passes"; return 1; }
	for t in $(declare -F | awk '$3 ~ /^t_/ {print $3}'); do
		[[ $t =~ $2 ]] || continue
		leftovers >"$TMP/before"
		attempt "$t"
		case $status in
		0) ok=$((ok + 1)); echo "ok - $1${t#t_}" ;;
		77) skipped=$((skipped + 1)); echo "ok - $1${t#t_} # SKIP $(<"$TMP/reason")" ;;
		*) bad=$((bad + 1)); echo "not ok - $1${t#t_}"; sed 's/^\(# \)\{0,1\}/# /' "$TMP/log" | tail -20
			b rm -f $(b ps -aq) >/dev/null 2>&1 ;;
		esac
	done
	echo "$ok passed, $bad failed, $skipped skipped"
	[ $bad = 0 ] && [ $ok -gt 0 ]
}
