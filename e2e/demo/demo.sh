#!/usr/bin/env bash
# From a root file system to a running container, through every part, with the
# programs an operator and a cell run. See README.md for what it prints.
#
#   make demo                              a Debian root file system, made here
#   make demo ROOTFS=file.tar[.gz|.zst]    one of yours
#   make demo IMAGE=docker://host/repo:tag an image from a registry, or IMAGE=oci:DIR:REF
#
# PUBLISH_FLAGS and SKOPEO_FLAGS are handed on, such as --plain-http=localhost:5000
# and --src-tls-verify=false for a registry without TLS.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Everything is mounted in a namespace of its own, so nothing can stay behind.
if [ -z "${ROOTSTOCK_DEMO_NS:-}" ]; then
	[ "$(id -u)" = 0 ] || { echo "the demo mounts and starts a container: run it as root" >&2; exit 1; }
	exec env ROOTSTOCK_DEMO_NS=1 unshare --mount --propagation private -- "$0" "$@"
fi

bin=$PWD/bin
cache=$PWD/.cache/demo
mkdir -p "$cache"
work=$(mktemp -d "$cache/run.XXXXXX")
name=demo.rootstock.test
handle=demo-$$
pids=()

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }
mib() { awk -v n="$1" 'BEGIN { printf "%.1f MiB", n / 1048576 }'; }

finish() {
	status=$?
	set +e
	"$bin/rootstock-plugin" --config "$work/plugin.json" delete "$handle" >/dev/null 2>&1
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null && wait "${pids[i]}" 2>/dev/null; done
	rm -rf "$work"
	exit $status
}
trap finish EXIT

# A real root file system, from this machine's own package sources.
debian() {
	. /etc/os-release
	local suite=${VERSION_CODENAME:-bookworm} sources=()
	local tar=$cache/$suite.tar
	if [ ! -s "$tar" ]; then
		for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
			if [ -s "$f" ] && grep -qE '^(deb |Types:)' "$f"; then sources+=("$f"); fi
		done
		say "making a Debian $suite root file system with mmdebstrap (kept for the next run)" >&2
		mmdebstrap --quiet --format=tar --variant=minbase --include=python3-minimal,ca-certificates,curl "$suite" "$tar.new" "${sources[@]}" >&2
		mv "$tar.new" "$tar"
	fi
	ROOTFS=$tar
}
if [ -z "${IMAGE:-}" ]; then
	[ -n "${ROOTFS:-}" ] || debian
	[ -r "$ROOTFS" ] || { echo "cannot read ROOTFS=$ROOTFS" >&2; exit 1; }
	source_name=$(basename "$ROOTFS")
else
	source_name=$IMAGE
fi

say "1. a stratum 0 and its keys"
"$bin/rootstock" init --store "$work/stratum0" --name $name --keys "$work/keys"

say "2. publish $source_name"
t=$(now)
if [ -n "${IMAGE:-}" ]; then
	case $IMAGE in docker://*) ;; *) PUBLISH_FLAGS="${PUBLISH_FLAGS:-} --as=$name/image:1" ;; esac
	# shellcheck disable=SC2086 # flags are words
	"$bin/rootstock" publish --store "$work/stratum0" --keys "$work/keys" image ${PUBLISH_FLAGS:-} "$IMAGE"
else
	"$bin/rootstock" publish --store "$work/stratum0" --keys "$work/keys" rootfs demo 1 "$ROOTFS"
fi
publish=$(since "$t")
"$bin/rootstock" ls --store "$work/stratum0"
"$bin/rootstock" ls --store "$work/stratum0" --json >"$work/ls.json"
uri=$(python3 - "$work/ls.json" $name <<'EOF'
import json, sys
t = json.loads(open(sys.argv[1]).readline())
print("cvmfs://%s/%s/%s@%s" % (sys.argv[2], t["kind"], t["name"], t["version"]))
EOF
)

say "3. serve it on loopback, mount it on an empty cache"
"$bin/rootstock" serve --store "$work/stratum0" --listen 127.0.0.1:0 >"$work/serve.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do url=$(sed -nE 's#.*(http://127\.0\.0\.1:[0-9]+).*#\1#p' "$work/serve.log" | head -1); [ -n "$url" ] && break; sleep 0.05; done
[ -n "$url" ] || { cat "$work/serve.log" >&2; exit 1; }
mkdir "$work/mnt"
start=$(now)
"$bin/rootstock-cell" mount --url "$url/cvmfs/$name" --name $name --key "$work/keys/$name.pub" --cache "$work/cache" \
	--socket "$work/cell.sock" "$work/mnt" >"$work/cell.log" 2>&1 &
pids+=($!)
for _ in $(seq 400); do grep -q '^mounted ' "$work/cell.log" && break; kill -0 "${pids[-1]}" 2>/dev/null || break; sleep 0.01; done
grep '^mounted ' "$work/cell.log" || { cat "$work/cell.log" >&2; exit 1; }

say "4. a container on it: rootstock-plugin create, then runc"
cat >"$work/plugin.json" <<EOF
{"store": "$work/containers", "socket": "$work/cell.sock"}
EOF
"$bin/rootstock-plugin" --config "$work/plugin.json" create "$uri" "$handle" >"$work/spec.json" 2>"$work/plugin.log" ||
	{ cat "$work/spec.json" "$work/plugin.log" >&2; exit 1; }
mkdir "$work/bundle"
python3 e2e/demo/config.py "$work/spec.json" "$handle" >"$work/bundle/config.json" \
	sh -c 'echo "hello from $(. /etc/os-release && echo "$PRETTY_NAME")"; echo "kept in the write layer" >/root/note; cat /root/note; ls / | tr "\n" " "; echo'
runc --root "$work/runc" run --bundle "$work/bundle" "$handle" | {
	IFS= read -r line
	now >"$work/first"
	printf '%s\n' "$line"
	cat
}
first=$(awk -v a="$start" -v b="$(cat "$work/first")" 'BEGIN { printf "%.2f", b - a }')
"$bin/rootstock-plugin" --config "$work/plugin.json" stats "$handle"
"$bin/rootstock-plugin" --config "$work/plugin.json" delete "$handle"
"$bin/rootstock-cell" status --socket "$work/cell.sock" --json >"$work/status.json"

say "5. the same content, unpacked the usual way"
mkdir "$work/unpacked"
t=$(now)
if [ -n "${IMAGE:-}" ]; then
	# shellcheck disable=SC2086 # flags are words
	skopeo copy --quiet ${SKOPEO_FLAGS:-} "$IMAGE" "oci:$work/oci:demo"
	umoci --log=error unpack --image "$work/oci:demo" "$work/unpacked/bundle"
	usual="skopeo + umoci unpack"
else
	tar -C "$work/unpacked" -xf "$ROOTFS"
	usual="tar -x"
fi
unpack=$(since "$t")

python3 - "$work/ls.json" "$work/status.json" "$publish" "$first" "$unpack" "$usual" <<'EOF'
import json, sys
tree = json.loads(open(sys.argv[1]).readline())
fetched = json.load(open(sys.argv[2]))["repositories"][0]
mib = lambda n: "%.1f MiB" % (n / 1048576)
rows = [
    ("size of the image", "%s in %d entries" % (mib(tree["bytes"]), tree["entries"])),
    ("published in", sys.argv[3] + " s"),
    ("fetched by the cell", "%s in %d requests" % (mib(fetched["fetched_bytes"]), fetched["fetched_objects"])),
    ("empty cache to first output", sys.argv[4] + " s"),
    ("%s of all of it" % sys.argv[6], sys.argv[5] + " s"),
]
print()
for what, value in rows:
    print("  %-36s %s" % (what, value))
EOF
