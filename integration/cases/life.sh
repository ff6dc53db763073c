# Containers that live on, and what is left of many.

t_detached() {
	local id; id=$(b run -d --name web busybox sh -c 'echo up; sleep 100')
	like "$id" '^[0-9a-f]{64}$'
	sleep 0.3
	eq "$(b logs web)" up
	eq "$(b exec web sh -c 'echo in; exit 3' || echo $?)" $'in\n3'
	like "$(b ps)" web
	refuse 125 web run --name web busybox true
	b stop -t 1 web >/dev/null; eq "$(b inspect -f '{{.State.Status}} {{.State.ExitCode}}' web)" "exited 137"
	b rm web >/dev/null
}
t_two_containers_talk() {
	b run -d --name server busybox sh -c 'mkdir /w; echo page >/w/i; exec httpd -f -p 80 -h /w' >/dev/null
	local ip; ip=$(b inspect -f '{{.NetworkSettings.IPAddress}}' server)
	eq "$(b run --rm busybox sh -c "for i in 1 2 3 4 5; do wget -q -O - http://$ip/i && exit; sleep 0.2; done")" page
	b rm -f server >/dev/null
}
t_two_hundred() {
	local i
	for i in $(seq 200); do b run --rm busybox true || fail "run $i"; done
}
t_four_times_fifty() {
	local j
	for j in 1 2 3 4; do (for i in $(seq 50); do b run --rm busybox true || exit 1; done) & done
	for j in 1 2 3 4; do wait -n || fail "a run failed"; done
}
t_ps_against_run() {
	local i j ps runs=() failed=0
	while b ps -a >/dev/null; do :; done & ps=$!
	for j in 1 2 3; do (for i in $(seq 40); do b run --rm --network none busybox true || exit 1; done) & runs+=($!); done
	for j in "${runs[@]}"; do wait "$j" || failed=1; done
	kill $ps 2>/dev/null || fail "ps failed"
	wait $ps 2>/dev/null || true
	eq $failed 0 "runs that failed"
}
t_killed_at_any_moment() {
	local i p
	for i in $(seq 40); do
		"$BERTH" --root "$ROOT" run --rm busybox sleep 0.05 >/dev/null 2>&1 & p=$!
		sleep "0.0$((RANDOM % 5))$((RANDOM % 10))"
		kill -KILL $p 2>/dev/null || true
		wait $p 2>/dev/null || true
	done
	sleep 1.5 # containers whose berth was killed end by themselves
	b system prune -f >/dev/null
}
t_other_users_of_the_host() { # what a container leaves is not theirs to run
	local ROOT=$TMP/own id su # made by the run itself
	id=$(b run -d --name su --network none -v suvol:/v @host sh -c 'mkdir /su; cp /bin/busybox /su; chmod 4755 /su/busybox; cp -p /su/busybox /v; echo up; sleep 100')
	local i; for i in $(seq 50); do [ "$(b logs su)" = up ] && break; sleep 0.1; done
	for su in "$ROOT/containers/$id/upper/su/busybox" "$ROOT/volumes/suvol/_data/busybox"; do
		[ -u "$su" ] || fail "$su is not there"
		if setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '"$1" id -u' sh "$su" 2>/dev/null; then fail "a user ran $su"; fi
	done
	b mount su >"$TMP/at"; like "$(grep " $(cat "$TMP/at") " /proc/self/mountinfo)" ' rw,nosuid,nodev'
	b umount su; b stop -t 0 su >/dev/null
	b mount su >"$TMP/at"; like "$(grep " $(cat "$TMP/at") " /proc/self/mountinfo)" ' rw,nosuid,nodev'
	b umount su; b rm su >/dev/null; rm -r "$ROOT"
}
t_end_of_process_one_is_the_end() { # although others still write: they share no pid namespace with it
	local r loop='(while :; do echo x; sleep 0.02; done) & exit 3'
	timeout 10 "$BERTH" --root "$ROOT" run --rm --network none --pid host busybox sh -c "$loop" >/dev/null || r=$?
	eq "$r" 3
	b run -d --name over --network none --pid host busybox sh -c "$loop" >/dev/null
	local i; for i in $(seq 50); do [ "$(b inspect -f '{{.State.Status}}' over)" = exited ] && break; sleep 0.1; done
	eq "$(b inspect -f '{{.State.Status}} {{.State.ExitCode}}' over)" "exited 3"
	b rm over >/dev/null
	b run -d --name up --network none busybox sleep 100 >/dev/null # exec ends with its own process
	r=0; timeout 10 "$BERTH" --root "$ROOT" exec up sh -c "$loop" >/dev/null || r=$?
	eq "$r" 3
	b rm -f up >/dev/null
}
t_slow_reader_gets_all() {
	eq "$(b run --rm --network none busybox head -c 150000 /dev/zero | { sleep 1; wc -c; })" 150000
}
t_signal_after_the_end() { # nobody reads: the signal means berth, and not a number that is free again
	mkfifo "$TMP/fifo"
	sleep 1000 <"$TMP/fifo" & local reader=$!
	"$BERTH" --root "$ROOT" run --rm --network none -v "$TMP/d:/d" busybox sh -c 'head -c 100000 /dev/zero; touch /d/done' >"$TMP/fifo" & local p=$!
	local i; for i in $(seq 100); do [ -e "$TMP/d/done" ] && [ -z "$(cat /proc/"$p"/task/*/children)" ] && break; sleep 0.1; done
	[ -e "$TMP/d/done" ] && kill -0 "$p" || fail "it ended although nobody read"
	kill -TERM "$p"
	for i in $(seq 50); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
	kill -KILL "$p" 2>/dev/null && fail "SIGTERM did not end it"
	kill "$reader"; wait "$reader" 2>/dev/null || true; rm -r "$TMP/fifo" "$TMP/d"
}
t_mount_stays_over_start_and_end() {
	local at; b create --name mm --network none busybox sh -c 'trap exit TERM; cat /from-host; echo x >/from-inside; while :; do sleep 0.1; done' >/dev/null
	at=$(b mount mm); echo hello >"$at/from-host"
	b start mm >/dev/null
	local i; for i in $(seq 50); do [ -e "$at/from-inside" ] && [ -n "$(b logs mm)" ] && break; sleep 0.1; done
	eq "$(b logs mm)" hello; eq "$(cat "$at/from-inside")" x
	eq "$(stat -c %d "$at")" "$(b exec mm stat -c %d /)" "the device: one overlay, not two with the same upper directory"
	b stop mm >/dev/null; eq "$(cat "$at/from-inside")" x
	(cd "$at" && refuse 125 'in use' start mm)
	b start mm >/dev/null; eq "$(stat -c %d "$at")" "$(b exec mm stat -c %d /)"
	b export mm | tar -xO from-inside >"$TMP/out"; eq "$(cat "$TMP/out")" x
	mountpoint -q "$at" || fail "export took the mount away"
	b rm -f mm >/dev/null
	b create --name short --network none busybox touch /from-inside >/dev/null # has ended when start returns
	at=$(b mount short); b start -a short; [ -e "$at/from-inside" ] || fail "nothing is seen after the end"
	b umount short; b export short | tar -t >"$TMP/out"; grep -qx from-inside "$TMP/out"
	! mountpoint -q "$at" || fail "export left a mount"
	b rm short >/dev/null
}
t_volume_killed_at_any_moment() { # is whole, empty or not there; nothing stays for ever
	local i p n
	b create --name pack --network none busybox sh -c 'mkdir /data; cd /data; for i in $(seq 300); do echo $i >$i; done' >/dev/null
	b start -a pack; b export pack >"$TMP/pack.tar"; b rm pack >/dev/null; b import "$TMP/pack.tar" pack:1 >/dev/null
	for i in $(seq 30); do
		"$BERTH" --root "$ROOT" create --name "v$i" --network none -v "v$i:/data" pack:1 true >/dev/null 2>&1 & p=$!
		sleep "0.00$((RANDOM % 3))$((RANDOM % 10))"
		kill -KILL $p 2>/dev/null || true
		wait $p 2>/dev/null || true
		n=$(b run --rm --network none -v "v$i:/data" pack:1 sh -c 'ls /data | wc -l')
		eq "$n" 300 "files in volume v$i"
	done
	b rm -f $(b ps -aq) >/dev/null 2>&1 || true
	b system prune -f --volumes >/dev/null; b volume rm -f $(b volume ls -q) >/dev/null
	eq "$(ls -A "$ROOT/volumes")" ""
	b rmi pack:1 >/dev/null
}
