#!/usr/bin/env bash
# Figures beside a peer, measured in the same session: see docs/design/goals.md
# for how to read them. BENCH_ROOTFS=file.tar takes a root file system of yours
# instead of the large Debian one made here (kept for the next run).
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${ROOTSTOCK_BENCH_NS:-}" ]; then
	[ "$(id -u)" = 0 ] || { echo "the benchmarks mount: run them as root" >&2; exit 1; }
	exec env ROOTSTOCK_BENCH_NS=1 unshare --mount --propagation private -- "$0" "$@"
fi
mkdir -p .cache/bench
tar=${BENCH_ROOTFS:-$PWD/.cache/bench/rootfs.tar}
if [ ! -s "$tar" ]; then
	. /etc/os-release
	sources=()
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
		if [ -s "$f" ] && grep -qE '^(deb |Types:)' "$f"; then sources+=("$f"); fi
	done
	echo "making a root file system of some 45,000 entries with mmdebstrap (kept for the next run)"
	mmdebstrap --quiet --format=tar --variant=minbase \
		--include=python3,perl,ruby,build-essential,git,curl,openssh-client,ca-certificates,vim,cmake,gdb,python3-pip,python3-numpy,nodejs,golang-go,default-jdk-headless,attr,libcap2-bin \
		"${VERSION_CODENAME:-bookworm}" "$tar.new" "${sources[@]}"
	mv "$tar.new" "$tar"
fi
exec python3 e2e/bench/bench.py "$tar" "$@"
