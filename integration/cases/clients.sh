# Real callers of the OCI face, where they are installed: podman with conmon,
# containerd with its shim. Nothing is downloaded. No cgroups for podman and no
# limits: so it passes on hosts whose controllers are on cgroup v1, too.

# need COMMAND...: or the case is skipped.
need() { local c; for c in "$@"; do command -v "$c" >/dev/null || skip "$c is not installed"; done; }
# p: podman with its files in the test's directory and berth as the runtime.
p() {
	CONTAINERS_CONF=$TMP/pod/conf podman --log-level=error --root "$TMP/pod/root" --runroot "$TMP/pod/run" \
		--storage-driver vfs "$@"
}
podman_up() {
	need podman conmon
	ln -sf "$BERTH" "$TMP/berth-oci"
	mkdir -p "$TMP/pod"
	ls /run/berth-oci >"$TMP/pod/before" 2>/dev/null || true
	trap podman_down EXIT # whatever fails: no container may be left on this machine
	cat >"$TMP/pod/conf" <<-E
		[containers]
		cgroups = "disabled"
		netns = "none"
		pids_limit = 0
		default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"] # podman's own may be above the hard limit
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		tmp_dir = "$TMP/pod/tmp"
		runtime = "berth"
		runtime_supports_json = ["berth"]
		runtime_supports_nocgroup = ["berth"]
		[engine.runtimes]
		berth = ["$TMP/berth-oci"]
	E
	p load -q -i "$TMP/busybox.tar" >/dev/null
}
podman_down() {
	trap - EXIT
	p rm -f -t 0 -a >/dev/null 2>&1 || true
	local left; left=$(ls /run/berth-oci 2>/dev/null | comm -13 "$TMP/pod/before" - || true)
	umount -R "$TMP/pod/root/vfs" 2>/dev/null || true # podman's own, of its storage
	umount -R "$TMP/pod/root" 2>/dev/null || true
	rm -r --one-file-system "$TMP/pod"
	eq "$left" "" "state of the runtime"
}
t_oci_podman() {
	podman_up
	local rc=0 i
	eq "$(p run --rm busybox echo out)" out
	p run --rm busybox sh -c 'exit 7' || rc=$?; eq $rc 7 "exit code"
	rc=0; p run --rm busybox nosuch 2>"$TMP/o.err" || rc=$?; eq $rc 127; like "$(<"$TMP/o.err")" 'executable file not found'
	rc=0; p run --rm busybox /bin/plain 2>"$TMP/o.err" || rc=$?; eq $rc 126; like "$(<"$TMP/o.err")" 'permission denied'
	p run -d --name one busybox sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done' >/dev/null
	eq "$(p inspect one --format '{{.OCIRuntime}} {{.State.Status}}')" "berth running"
	eq "$(p exec --user 1000 one id -u)" 1000
	rc=0; p exec one sh -c 'exit 3' || rc=$?; eq $rc 3 "exit code of exec"
	like "$(script -qec "CONTAINERS_CONF=$TMP/pod/conf podman --root $TMP/pod/root --runroot $TMP/pod/run --storage-driver vfs exec -it one tty" /dev/null </dev/null)" /dev/pts/
	for i in 1 2 3 4 5 6; do p exec one echo "out$i" & done >"$TMP/pod/six"; wait
	eq "$(sort "$TMP/pod/six" | tr '\n' ' ')" "out1 out2 out3 out4 out5 out6 " "six at once"
	p stop -t 10 one >/dev/null
	eq "$(p inspect one --format '{{.State.ExitCode}}')" 5 "stopped by SIGTERM"
	p start one >/dev/null; p kill one >/dev/null; eq "$(p wait one)" 137
	p rm one >/dev/null
	p run -d --name two --health-cmd 'test -e /ok' --health-interval disable busybox sleep 100 >/dev/null
	rc=0; p healthcheck run two >/dev/null || rc=$?; eq $rc 1 "unhealthy"
	p exec two touch /ok; p healthcheck run two
	p rm -f -t 0 two >/dev/null
	podman_down
}
t_oci_containerd() {
	need containerd containerd-shim-runc-v2 ctr
	ln -sf "$BERTH" "$TMP/berth-oci"
	local d=$TMP/cd i rc=0 ctr
	mkdir -p "$d"
	cat >"$d/conf" <<-E
		version = 2
		root = "$d/root"
		state = "$d/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
		[grpc]
		address = "$d/sock"
	E
	containerd -c "$d/conf" >"$d/log" 2>&1 &
	local pid=$!
	ctr="ctr -a $d/sock"
	trap 'for i in $($ctr tasks ls -q); do $ctr tasks rm -f $i; done; kill $pid' EXIT
	for i in $(seq 100); do [ -S "$d/sock" ] && break; sleep 0.1; done
	local run="$ctr run --runc-binary $TMP/berth-oci --snapshotter native --cpu-shares 0 --cgroup="
	$ctr images import "$TMP/busybox.tar" >/dev/null || fail "$(<"$d/log")"
	local img; img=$($ctr images ls -q)
	eq "$($run --rm "$img" c0 echo out)" out
	$run --rm "$img" c0 sh -c 'exit 7' || rc=$?; eq $rc 7 "exit code"
	rc=0; $run --rm "$img" c0 nosuch 2>"$TMP/o.err" || rc=$?; eq $rc 1; like "$(<"$TMP/o.err")" 'exec: "nosuch": executable file not found in \$PATH'
	for i in $(seq 8); do $run -d "$img" "c$i" sleep 1000 </dev/null & done; wait $(jobs -p | grep -v "^$pid$")
	eq "$($ctr tasks ls | grep -c RUNNING)" 8 "eight at once"
	rc=0; $ctr tasks exec --exec-id e c1 sh -c 'exit 3' || rc=$?; eq $rc 3 "exit code of exec"
	eq "$($ctr tasks exec --exec-id e c1 sh -c 'sleep 0.2; hostname; sleep 0.2' | wc -l)" 1 # ctr 1.6 loses the output of what ends at once
	like "$($ctr tasks ps c1)" PID
	for i in $(seq 8); do $ctr tasks rm -f "c$i" >/dev/null 2>&1; $ctr containers rm "c$i"; done
	eq "$($ctr tasks ls -q)" ""
	trap - EXIT
	kill $pid; wait $pid || true
	eq "$(ls /run/containerd/runc/default 2>/dev/null | grep -E '^c[0-8]$' || true)" "" "state of the runtime"
	rm -r --one-file-system "$d"
}
