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
