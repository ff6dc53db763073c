# Streams whose other end is full, gone or no terminal.

t_client_that_cannot_write_ends() {
	local r=0
	{ timeout 10 "$BERTH" --root "$ROOT" run --rm --network none -t busybox yes </dev/null || r=$?; echo "$r" >"$TMP/rc"; } | head -1 >"$TMP/out"
	eq "$(tr -d '\r' <"$TMP/out")" y; [ "$(<"$TMP/rc")" != 124 ] || fail "it does not end"
	r=0
	timeout 10 "$BERTH" --root "$ROOT" run --rm --network none -t busybox head -c 1000000 /dev/zero </dev/null >/dev/full 2>"$TMP/err" || r=$?
	eq "$r" 125; like "$(<"$TMP/err")" 'berth: error: write /dev/stdout: no space left on device'
	b run -d --name lf --network none busybox sh -c 'while :; do echo x; sleep 0.05; done' >/dev/null
	{ timeout 10 "$BERTH" --root "$ROOT" attach lf </dev/null || r=$?; echo "$r" >"$TMP/rc"; } | head -1 >"$TMP/out"; eq "$(<"$TMP/rc")" 141; eq "$(<"$TMP/out")" x
	eq "$(b inspect -f '{{.State.Status}}' lf)" running # who attaches does not end it
	b rm -f lf >/dev/null
}
t_stuck_client_holds_nothing_up() {
	local what begin p f=$TMP/stuck
	for what in 'stop -t 1' kill 'rm -f'; do
		b run -d --name at --network none busybox yes >/dev/null
		mkfifo "$f"; sleep 60 <"$f" & p=$!
		"$BERTH" --root "$ROOT" attach at >"$f" </dev/null 2>/dev/null & local c=$!
		sleep 1
		begin=$(date +%s%N)
		b $what at >/dev/null || fail "$what: exit code $?"
		[ $((($(date +%s%N) - begin) / 1000000)) -lt 3000 ] || fail "$what took $((($(date +%s%N) - begin) / 1000000)) ms"
		kill $p $c; wait $p $c 2>/dev/null || true
		rm "$f"; b rm -f at >/dev/null 2>&1 || true
	done
}
t_terminal_for_a_slow_reader() { # gets all, by way of the monitor
	eq "$(b run --rm --network none -t busybox head -c 2000000 /dev/zero </dev/null | { sleep 1; wc -c; })" 2000000
}
t_input_is_no_terminal() {
	local r=0
	refuse 1 'the input device is not a TTY' run --rm --network none -it busybox cat
	eq "$(b ps -aq)" ""
	b run -dit --name ti --network none busybox sleep 100 >/dev/null
	refuse 1 'the input device is not a TTY' exec -it ti cat
	b stop -t 0 ti >/dev/null
	refuse 1 'the input device is not a TTY' start -ai ti
	b rm ti >/dev/null
}
t_output_on_a_full_disk() {
	local r c
	b run -d --name fe --network none busybox sleep 100 >/dev/null
	for c in 'run --rm --network none busybox echo hi' 'exec fe echo hi' 'exec -t fe echo hi'; do
		r=0; b $c </dev/null >/dev/full 2>"$TMP/err" || r=$?
		eq "$r" 125 "$c"; like "$(<"$TMP/err")" 'berth: error: write /dev/stdout: no space left on device'
	done
	b rm -f fe >/dev/null
	{ b run --rm --network none busybox yes 2>"$TMP/err" || true; } | head -1 >/dev/null
	! grep berth: "$TMP/err" || fail "a pipeline that has seen enough is no error"
}
