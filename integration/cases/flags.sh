# What flags mean, and what is said of those that cannot be followed.

t_ipc_host_without_mqueue() {
	local o
	o=$(unshare --mount sh -c 'while umount /dev/mqueue 2>/dev/null; do :; done; rmdir /dev/mqueue 2>/dev/null
		exec "$@"' sh "$BERTH" --root "$ROOT" run --rm --network none --ipc host busybox sh -c 'readlink /proc/self/ns/ipc; grep -c " /dev/mqueue mqueue" /proc/mounts' 2>&1) || fail "$o"
	eq "$o" "$(readlink /proc/self/ns/ipc)"$'\n'1
}
t_inspect_spells_as_docker() {
	mkdir "$TMP/v"
	b create --name in -p 127.0.0.1:8099:80 -v "$TMP/v:/v:ro" busybox true >/dev/null
	eq "$(b inspect -f '{{(index (index .HostConfig.PortBindings "80/tcp") 0).HostIp}} {{(index .Mounts 0).Mode}}' in)" "127.0.0.1 ro"
	! b inspect in | grep HostIP || fail "HostIP"
	b rm in >/dev/null; rmdir "$TMP/v"
}
t_platform() {
	refuse 125 'unknown architecture' pull --platform bogus busybox
	refuse 125 'unknown architecture' run --rm --platform linux/bogus busybox true
	layout "$TMP/oci" # of one platform only, which this machine is not asked to be
	try run --rm --network none --platform linux/s390x "oci:$TMP/oci:t" true
	eq "$rc" 0; like "$err" 'berth: note: image .* is for linux/amd64, not for linux/s390x'
	try run --rm --network none --platform linux/amd64 "oci:$TMP/oci:t" true; eq "$rc$err" 0
	rm -r "$TMP/oci"
}
t_words_of_docker() {
	b run --rm --network none --no-healthcheck --disable-content-trust --log-driver json-file busybox true
	refuse 125 'json-file' run --rm --log-driver syslog busybox true
	refuse 125 'docker has --gpus, berth does not' run --rm --gpus all busybox true
	! grep -q 'did you mean' <<<"$err" || fail "$err"
	refuse 125 'docker has cp, berth does not' cp a b
	refuse 125 'unknown flag: -Z' run -Z busybox true
	! grep -q 'did you mean' <<<"$err" || fail "$err"
	refuse 125 'did you mean --network' run --netwrk none busybox true
}
t_hints() {
	refuse 125 'no such network: nosuch.*bridge, host, none and container:NAME' run --rm --network nosuch busybox true
	refuse 125 'did you mean @host' run --rm --network none @hots true
	refuse 125 'kernel takes 64' run --rm --network none -h "$(printf 'h%.0s' {1..70})" busybox true
	refuse 125 'want letters' run --rm --network none -h 'bad host' busybox true
	try run --rm --network none -p 80:80 busybox true; eq "$rc" 0; like "$err" 'no meaning with --network none'
	b run -d --name hn --network none busybox sleep 100 >/dev/null
	refuse 125 'conflicting options: hostname' run --rm --network container:hn -h x busybox true
	eq "$(cat /proc/"$(sed -n 's/.*"Monitor":\([0-9]*\).*/\1/p' "$ROOT"/containers/*/state.json)"/comm)" berth
	b rm -f hn >/dev/null
}
t_near_image() {
	layout "$TMP/oci"
	refuse 125 'did you mean busybox:latest, which is here' run --rm --network none busybix true
	rm -r "$TMP/oci"
}
t_host_path() {
	eq "$(PATH=$PATH:/berth-extra b run --rm --network none @host sh -c 'echo $PATH')" "$PATH:/berth-extra"
}
t_rmi_names() {
	b tag busybox:latest bb:ep; eq "$(b rmi bb:ep)" "Untagged: bb:ep"
}
t_interrupted() { # by which signal tells the exit code
	local s r
	b run -d --name wt --network none busybox sleep 100 >/dev/null
	for s in 'INT 130' 'TERM 143'; do
		r=0; setsid --wait sh -c '"$@" & p=$!; sleep 0.5; kill -'"${s% *}"' $p; wait $p' sh env --default-signal=INT "$BERTH" --root "$ROOT" wait wt >/dev/null 2>&1 || r=$?
		eq "$r" "${s#* }" "$s"
	done
	b rm -f wt >/dev/null
}
t_log_that_cannot_be_written() {
	local id; id=$(b create --name nl --network none busybox echo hi)
	mkdir "$ROOT/containers/$id/log.json"
	try start -a nl; eq "$rc" 0; eq "$out" hi; like "$err" 'berth: note: the log of container nl is not complete'
	! grep -q 'berth: error' <<<"$err" || fail "$err"
	b rm nl >/dev/null
}
t_asked_for() { # no riddle about who killed it
	local c r=0
	"$BERTH" --root "$ROOT" run --rm --name as --network none -t busybox sleep 100 >"$TMP/out" 2>"$TMP/err" </dev/null & c=$!
	sleep 1; b stop -t 0 as >/dev/null; wait $c || r=$?
	eq "$r" 137; eq "$(<"$TMP/err")" ""
}
