# What docs/week.md takes for granted: two versions of a root file system, a
# buildpack, an image.
import hashlib, io, json, os, tarfile, zipfile

os.makedirs("in")


def add(t, name, text, mode=0o644):
    m = tarfile.TarInfo(name)
    m.size, m.mode, m.mtime = len(text), mode, 1700000000
    t.addfile(m, io.BytesIO(text))


def noise(seed, size):
    return hashlib.shake_256(seed).digest(size)


for version, package, size in ("1.267.0", "17", 100000), ("1.268.0", "18", 101000):
    with tarfile.open("in/cflinuxfs4-%s.tar.gz" % version, "w:gz") as t:
        add(t, "./etc/stack-version", version.encode())
        add(t, "./etc/os-release", b'ID=ubuntu\nVERSION_ID="22.04"\n')
        add(t, "./bin/sh", noise(b"sh", 120000), 0o755)
        add(t, "./usr/lib/libssl.so.3", noise(version.encode(), size))
        add(t, "./var/lib/dpkg/status", b"Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\n"
            b"Source: openssl\nVersion: 3.0.2-0ubuntu1." + package.encode() + b"\n")

with zipfile.ZipFile("in/small_buildpack-v1.0.0.zip", "w") as z:
    for name, text in ("VERSION", "1.0.0"), ("manifest.yml", "language: small\n"):
        z.writestr(name, text)
    for name in "detect", "supply", "finalize", "release":
        i = zipfile.ZipInfo("bin/" + name)
        i.external_attr = 0o100755 << 16
        i.create_system = 3
        z.writestr(i, "#!/bin/sh\n")


def blob(b):
    name = hashlib.sha256(b).hexdigest()
    with open("image/blobs/sha256/" + name, "wb") as f:
        f.write(b)
    return {"digest": "sha256:" + name, "size": len(b)}


os.makedirs("image/blobs/sha256")
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as t:
    add(t, "etc/motd", b"hello\n")
kind = "application/vnd.oci.image."
diff = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}}).encode())
manifest = blob(json.dumps({
    "schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": dict(config, mediaType=kind + "config.v1+json"),
    "layers": [dict(blob(layer.getvalue()), mediaType=kind + "layer.v1.tar")]}).encode())
json.dump({"imageLayoutVersion": "1.0.0"}, open("image/oci-layout", "w"))
json.dump({"schemaVersion": 2, "manifests": [dict(manifest, mediaType=kind + "manifest.v1+json", annotations={"org.opencontainers.image.ref.name": "1"})]},
          open("image/index.json", "w"))
