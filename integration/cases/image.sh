# Images that are not what they say.

# store_files: nothing of a refused image may be among them.
store_files() { find "$ROOT" -mindepth 2 ! -name .lock | sort; }
refuse_load() { # REGEX LOAD-ARG...
	store_files >"$TMP/had"
	refuse 125 "$1" load -q "${@:2}"
	store_files | diff "$TMP/had" - || fail "left in the store by berth load ${*:2}"
}
t_corrupt_archive() {
	head -c 100000 "$TMP/busybox.tar" >"$TMP/short.tar"
	refuse_load 'unexpected EOF' -i "$TMP/short.tar"
	head -c 100000 /dev/urandom >"$TMP/short.tar"
	refuse_load 'neither manifest.json nor index.json|invalid tar header' -i "$TMP/short.tar"
	: >"$TMP/short.tar"
	refuse_load 'neither manifest.json nor index.json' -i "$TMP/short.tar"
	rm "$TMP/short.tar"
}
t_digest_mismatch_in_archive() { # one byte of /etc/passwd is another
	local ROOT=$TMP/own # a layer that is there already is not read again
	mkdir "$ROOT"
	mkdir "$TMP/x"; tar -xf "$TMP/busybox.tar" -C "$TMP/x"
	sed -i 's/app:x:1000:1000/bpp:x:1000:1000/' "$TMP/x/layer.tar"
	tar -cf "$TMP/bad.tar" -C "$TMP/x" manifest.json config.json layer.tar
	refuse_load 'digest of the tar is sha256:[0-9a-f]{64}, the configuration.s diff_id is sha256:' -i "$TMP/bad.tar"
	refuse 125 'digest of the tar' run --rm --network none "docker-archive:$TMP/bad.tar" true
	rm -r "$TMP/x" "$TMP/bad.tar" "$ROOT"
}
t_digest_mismatch_in_layout() { # each kind of blob in turn
	local ROOT=$TMP/own kind blob
	mkdir "$ROOT"
	for kind in layer config manifest; do
		layout "$TMP/oci"
		blob=$(cat "$TMP/oci/$kind")
		sed -i '$s/.\{9\}$/_amended_/' "$TMP/oci/blobs/sha256/$blob" # the size stays
		store_files >"$TMP/had"
		refuse 125 "$blob" run --rm --network none "oci:$TMP/oci:t" true
		like "$err" 'digest'
		store_files | diff "$TMP/had" - || fail "left in the store by a bad $kind"
		rm -r "$TMP/oci"
	done
	layout "$TMP/oci"
	eq "$(b run --rm --network none "oci:$TMP/oci:t" id -un app)" app "the same, undamaged"
	rm -r "$TMP/oci" "$ROOT"
}
# layout DIR: busybox.tar as an OCI layout with the tag t; the files layer,
# config and manifest hold the digests.
layout() {
	python3 - "$TMP/busybox.tar" "$1" <<'P'
import hashlib, json, os, sys, tarfile
src, dir = sys.argv[1:]
os.makedirs(dir + "/blobs/sha256")
t = tarfile.open(src)
def blob(kind, data, media):
    d = hashlib.sha256(data).hexdigest()
    open(dir + "/blobs/sha256/" + d, "wb").write(data)
    open(dir + "/" + kind, "w").write(d)
    return {"mediaType": "application/vnd.oci.image." + media, "digest": "sha256:" + d, "size": len(data)}
layer = blob("layer", t.extractfile("layer.tar").read(), "layer.v1.tar")
config = blob("config", t.extractfile("config.json").read(), "config.v1+json")
m = blob("manifest", json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode(), "manifest.v1+json")
m["annotations"] = {"org.opencontainers.image.ref.name": "t"}
json.dump({"schemaVersion": 2, "manifests": [m]}, open(dir + "/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(dir + "/oci-layout", "w"))
P
}
# tower NAME FILE N: busybox.tar and N layers above it, each with a file of its
# number; every one writes /top and removes what the one below left in /gone.
tower() {
	python3 - "$TMP/busybox.tar" "$@" <<'P'
import hashlib, io, json, sys, tarfile
src, name, path, n = sys.argv[1:]
base = tarfile.open(src)
layers = [base.extractfile("layer.tar").read()]
for i in range(1, int(n) + 1):
    buf = io.BytesIO()
    t = tarfile.open(fileobj=buf, mode="w")
    for f, data in (("tower/%d" % i, b"%d" % i), ("top", b"%d\n" % i), ("gone/%d" % i, b""), ("gone/.wh.%d" % (i - 1), b"")):
        h = tarfile.TarInfo(f); h.size = len(data); t.addfile(h, io.BytesIO(data))
    t.close()
    layers.append(buf.getvalue())
config = json.loads(base.extractfile("config.json").read())
config["rootfs"]["diff_ids"] = ["sha256:" + hashlib.sha256(l).hexdigest() for l in layers]
config["history"] = [{"created_by": "layer %d" % i} for i in range(len(layers))]
out = tarfile.open(path, "w")
def put(f, data):
    h = tarfile.TarInfo(f); h.size = len(data); out.addfile(h, io.BytesIO(data))
put("config.json", json.dumps(config).encode())
for i, l in enumerate(layers): put("%d.tar" % i, l)
put("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["%d.tar" % i for i in range(len(layers))]}]).encode())
out.close()
P
}
before_6_8() { printf '%s\n' 6.8 "$(uname -r)" | sort -VC && return 1 || return 0; }
t_more_layers_than_fit_in_a_page() { # of mount(2)'s options: given one by one
	local ROOT=$TMP/own look
	mkdir "$ROOT"
	tower tower:latest "$TMP/tower.tar" 200
	b load -q -i "$TMP/tower.tar"
	if before_6_8; then
		refuse 125 'the root: 202 layers: .* not take them one by one \(lowerdir\+, Linux 6.8\)' run --rm --network none tower true
		rm -r "$ROOT" "$TMP/tower.tar"
		return
	fi
	try explain run --rm --network none tower true
	like "$out" 'fsconfig\(\$fs, FSCONFIG_SET_STRING, "lowerdir\+", "layers/'
	eq "$(grep -c 'lowerdir+' <<<"$out")" 202 "layers of the plan: busybox, the tower and that of mount points"
	like "$out" 'fsconfig\(\$fs, FSCONFIG_SET_FLAG, "volatile"'
	look='cat /tower/1 /tower/200 /top; ls /tower | wc -l; ls /gone; echo x >/top; rm /tower/1; ls -d /tower/1 2>&1; grep -c "^overlay / overlay" /proc/mounts'
	eq "$(b run --rm --network none tower sh -c "$look" || true)" $'1200200\n200\n200\nls: /tower/1: No such file or directory\n1'
	b run --name kept --network none tower sh -c 'echo mine >/top'
	eq "$(b start -a kept; b export kept | tar -xO tower/1)" 1 "of a container that ended"
	eq "$(cat "$(b mount kept)/tower/200")" 200 "of one that is mounted on the host"
	b umount kept >/dev/null
	eq "$(b inspect -f '{{len .RootFS.Layers}}' tower; b history -q tower | wc -l)" $'201\n201'
	b save -o "$TMP/saved.tar" tower
	b rm kept >/dev/null; b rmi tower >/dev/null
	eq "$(ls "$ROOT/layers" | wc -l)" 0 "layers that are left"
	b load -q -i "$TMP/saved.tar"
	eq "$(b run --rm --network none tower cat /tower/1 /tower/200)" 1200 "saved and loaded"
	rm -r "$ROOT" "$TMP/tower.tar" "$TMP/saved.tar"
}
t_as_many_layers_as_overlayfs_takes() {
	local ROOT=$TMP/own
	mkdir "$ROOT"
	tower most:latest "$TMP/tower.tar" 498 # and busybox, and that of mount points: OVL_MAX_STACK
	b load -q -i "$TMP/tower.tar"
	before_6_8 || eq "$(b run --rm --network none most cat /tower/1 /tower/498)" 1498
	tower more:latest "$TMP/tower.tar" 499
	refuse_load '500 layers, overlayfs takes at most 499 of an image' -i "$TMP/tower.tar"
	rm -r "$ROOT" "$TMP/tower.tar"
}
