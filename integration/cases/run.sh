# What a container is, and how errors are told.

t_process_one() {
	try run --rm --network none busybox sh -c 'echo $$; hostname; ls /proc/self/fd; ls /sys/class/net'
	eq "$rc" 0 "$err"
	like "$out" $'^1\n[0-9a-f]{12}\n0\n1\n2\n.*lo'
}
t_exit_codes() {
	try run --rm --network none busybox sh -c 'exit 42'; eq "$rc" 42
	try run --rm --network none --init busybox sh -c 'kill -9 $$'; eq "$rc" 137 "killed"
}
t_host_image() { # no image, no network
	try run --rm --network none @host sh -c 'echo x >/etc/berth-was-here && cat /etc/berth-was-here'
	eq "$rc" 0 "$err"; eq "$out" x
	[ ! -e /etc/berth-was-here ] || fail "the host was written to"
}
t_errors() {
	refuse 127 nosuch run --rm --network none busybox nosuch
	refuse 126 plain run --rm --network none busybox /bin/plain
	refuse 125 no-such-flag run --no-such-flag busybox true
	refuse 125 'nope' run --rm --pull never nope:9 true
	refuse 125 'Nope' run --rm 'Nope//x' true
	refuse 125 nouser run --rm -u nouser busybox true
	refuse 125 vm.swappiness run --rm --network none --sysctl vm.swappiness=1 busybox true
	refuse 125 /no/such run --rm --mount type=bind,source=/no/such,target=/x busybox true
}
t_apparmor() { # what is not enforced is not taken without a word
	[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y ] || skip "AppArmor is enabled here"
	refuse 125 'AppArmor is not enabled' run --rm --network none --security-opt apparmor=docker-default busybox true
	b run --rm --network none --security-opt apparmor=unconfined busybox true
}
t_numeric_user_stays_so() { # whatever names the container writes into its passwd
	b run -d --name users --network none busybox sh -c 'echo 2000:x:0:0::/:/bin/sh >>/etc/passwd; echo big:x:4294967295:0::/:/bin/sh >>/etc/passwd; echo up; sleep 100' >/dev/null
	local i; for i in $(seq 50); do [ "$(b logs users)" = up ] && break; sleep 0.1; done
	eq "$(b exec -u 2000 users id -u)" 2000; eq "$(b exec -u app users id -u)" 1000
	refuse 125 4294967295 exec -u big users id -u
	b rm -f users >/dev/null
}
t_no_privileges() {
	local o rc=0
	o=$(setpriv --reuid 65534 --regid 65534 --clear-groups "$BERTH" --root "$ROOT" run --rm busybox true 2>&1) || rc=$?
	eq "$rc" 125; like "$o" 'berth: error:'; like "$o" 'hint'
}
t_full_disk() {
	mkdir "$TMP/full"; mount -t tmpfs -o size=512k tmpfs "$TMP/full"
	local o rc=0
	o=$("$BERTH" --root "$TMP/full" load -i "$TMP/busybox.tar" 2>&1) || rc=$?
	umount "$TMP/full"; rmdir "$TMP/full"
	eq "$rc" 125; like "$o" 'no space left'
}
t_missing_controller() {
	! grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null || skip "the memory controller is there"
	refuse 125 'memory.*cgroup v1' run --rm --network none -m 64m busybox true
}
t_volumes_and_read_only() {
	mkdir "$TMP/v"; echo hello >"$TMP/v/f"
	try run --rm --network none --read-only --tmpfs /t -v "$TMP/v:/a/b:ro" busybox sh -c 'cat /a/b/f; touch /t/x && echo t; touch /x || echo ro; touch /a/b/x || echo ro2'
	eq "$out" $'hello\nt\nro\nro2'
	rm -r "$TMP/v"
}
t_explain_is_what_runs() { # the system calls of the plan are those that strace sees
	command -v strace >/dev/null || skip "strace is not installed"
	b explain run --rm --network none busybox true >"$TMP/plan" || fail "explain"
	strace -f -o "$TMP/trace" "$BERTH" --root "$ROOT" run --rm --network none busybox true 2>/dev/null || true
	# The child is the thread that calls pivot_root; its calls up to execve.
	local pid; pid=$(awk '/pivot_root/ {print $1; exit}' "$TMP/trace")
	[ -n "$pid" ] || skip "strace cannot follow here: $(tail -1 "$TMP/trace")"
	awk -v p="$pid" '$1 == p && $2 != "<..." {sub(/\(.*/, "", $2); print $2}' "$TMP/trace" | sed '/^execve$/q' >"$TMP/seen"
	sed -n '/^clone3/,$p' "$TMP/plan" | sed '1d; /^#/d; /^$/d; s/(.*//' | sed '/^execve$/q' >"$TMP/told"
	# What was left out after a tolerated error is told and not seen: the rest is equal in order.
	awk 'NR==FNR {told[NR]=$0; n=NR; next} {while (i < n && told[++i] != $0) ; if (told[i] != $0) {print "not in the plan:", $0; exit 1}}' \
		"$TMP/told" "$TMP/seen" || fail "strace saw a call that the plan does not have"
	[ "$(wc -l <"$TMP/seen")" -gt 50 ] || fail "only $(wc -l <"$TMP/seen") calls seen"
}
t_ipc() {
	b run -d --name donor --network none --ipc shareable busybox sh -c 'echo covfefe >/dev/shm/bar; sleep 100' >/dev/null
	try run --rm --network none --ipc container:donor busybox sh -c 'cat /dev/shm/bar; echo back >/dev/shm/baz; readlink /proc/self/ns/ipc'
	eq "$out" "covfefe"$'\n'"$(b exec donor readlink /proc/self/ns/ipc)" "$err"
	eq "$(b exec donor cat /dev/shm/baz)" back
	like "$(b explain run --rm --network none --ipc container:donor busybox true)" '/shm'
	b rm -f donor >/dev/null
	try run --rm --network none --ipc none busybox sh -c 'ls -d /dev/shm; readlink /proc/self/ns/ipc'
	like "$err" 'No such file'; like "$out" '^ipc'; [ "$out" != "$(readlink /proc/self/ns/ipc)" ] || fail "the host's IPC namespace"
	b run -d --name donor --network none --ipc private busybox sleep 100 >/dev/null
	refuse 125 'non-shareable' run --rm --network none --ipc container:donor busybox true
	b rm -f donor >/dev/null
	refuse 125 'invalid mode' run --rm --network none --ipc default busybox true # was the host's
	b create --name late --network none --ipc shareable busybox sleep 100 >/dev/null
	b create --name joins --network container:late --pid container:late --ipc container:late busybox readlink /proc/self/ns/ipc >/dev/null
	refuse 125 'is not running' start -a joins
	b start late >/dev/null; eq "$(b start -a joins)" "$(b exec late readlink /proc/self/ns/ipc)"
	b rm -f joins late >/dev/null
}
t_odd_state_root() { # commas, colons and backslashes are overlayfs's own
	local ROOT="$TMP/a,b:c\\d e" at
	b load -q -i "$TMP/busybox.tar" >/dev/null
	b run --name odd --network none busybox sh -c 'echo x >/f'
	at=$(b mount odd); eq "$(cat "$at/f")" x
	b umount odd; b export odd | tar -xO f >"$TMP/out"; eq "$(cat "$TMP/out")" x
	b rm odd >/dev/null; rm -r "$ROOT"
}
t_umask_of_the_caller() { # is his, and not the container's
	local ROOT=$TMP/own
	umask 077
	b load -q -i "$TMP/busybox.tar" >/dev/null
	eq "$(b run --rm --network none -u 1000 -v v:/v busybox sh -c 'umask; stat -c %a /v; grep -c localhost /etc/hosts')" $'0022\n755\n2'
	eq "$(stat -c %a "$ROOT")" 700
	rm -r "$ROOT"
}
t_explain_while_running() { # the caller's steps and the process's, in the order of time, with result and time
	local how f re='^ *[0-9]+\.[0-9]{3} ms  [A-Za-z]+ +'
	b run --rm --explain -p 8097:80 busybox true 2>"$TMP/steps"
	b run --rm -t --explain -p 8097:80 busybox true 2>"$TMP/steps.t" </dev/null >/dev/null
	b run -d --name ex --explain -p 8097:80 busybox true 2>"$TMP/steps.d" >/dev/null; b rm -f ex >/dev/null
	for f in "$TMP"/steps*; do
		for how in 'mkdir .*berth/' 'clone3\(\{flags=CLONE_NEW' 'ip link add vb' 'ip address add .* dev eth0' 'nft .*8097' 'pivot_root' 'execve'; do
			grep -qE "$re.*$how" "$f" || fail "$how is not in $f: $(head -3 "$f")"
		done
		! grep -vE "$re|^ {22}(nft|ip) " "$f" || fail "a line that is no step"
		[ "$(grep -nE 'clone3\(\{flags=CLONE_NEW' "$f" | cut -d: -f1)" -lt "$(grep -n pivot_root "$f" | head -1 | cut -d: -f1)" ] || fail "order"
	done
	try run --rm -t --explain --network none busybox nosuch; eq "$rc" 127; like "$err" 'ENOENT +execve'
	rm "$TMP"/steps*
}

t_short_lives() { # a program that ends at once has run, and a step that fails is told, whoever is faster
	local i
	for i in {1..25}; do
		try run --rm --init --network none busybox sh -c 'echo out; exit 5'; eq "$rc $out" "5 out" "--init, $err"
		try run --rm --sysctl net.nope=1 busybox true; eq "$rc" 125; like "$err" 'proc/sys/net/nope'
	done
}
