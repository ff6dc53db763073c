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
