#!/usr/bin/env bash
# The suite's core on kernels of distributions, which are not this machine's:
# each is booted with a Debian of its own under qemu and runs the tests of
# suite.txt as they are. docs/kernel.md says which kernels and why.
#
#   make test-kernel              all of kernels.txt
#   make test-kernel KERNEL=6.1   one of them
#   … PACKAGES=regexp             only packages of suite.txt that match
#
# Nothing is installed on this machine, and its kernel loads nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/sbin:/sbin

cache=$PWD/.cache/kernel
here=$PWD/e2e/kernel
missing=
for tool in qemu-system-x86_64 mmdebstrap mkfs.ext4; do
	command -v $tool >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
	echo "SKIPPED: NO OTHER KERNEL IS TESTED: missing:$missing; install qemu-system-x86, mmdebstrap and e2fsprogs"
	exit 0
fi
[ "$(id -u)" = 0 ] || { echo "make test-kernel makes file systems with all owners: run it as root" >&2; exit 1; }
[ "$(uname -m)" = x86_64 ] || { echo "SKIPPED: NO OTHER KERNEL IS TESTED: kernels.txt names those for x86_64"; exit 0; }
mkdir -p "$cache"
work=$(mktemp -d "$cache/run.XXXXXX")
qemu=
# shellcheck disable=SC2317 # reached by the trap
finish() {
	status=$?
	trap - EXIT INT TERM
	if [ -n "$qemu" ]; then kill "$qemu" && wait "$qemu"; fi 2>/dev/null || true
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT INT TERM

lines() { sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$1"; }

# The guest's Debian, made once from this machine's own package sources: all
# kernels with their modules and initramfs, and the programs that tests call.
packages=$(lines "$here/packages.txt" | tr '\n' ',')$(lines "$here/kernels.txt" | awk '{print $2}' | paste -sd,)
key=$( (echo "$packages"; cat "$here/init.sh") | sha256sum | cut -c1-16)
root=$cache/root-$key
if [ ! -e "$root/done" ]; then
	echo "making a Debian with the kernels of kernels.txt (kept for the next run)"
	rm -rf "$cache"/root-*
	mkdir -p "$root" "$work/root"
	sources=()
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
		if [ -s "$f" ] && grep -qE '^(deb |Types:)' "$f"; then sources+=("$f"); fi
	done
	mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" bookworm "$work/root.tar" "${sources[@]}"
	tar -C "$work/root" --numeric-owner --xattrs --xattrs-include='*' -xpf "$work/root.tar"
	install -D -m 755 "$here/init.sh" "$work/root/suite/init"
	mkdir "$work/root/suite/disk"
	cp "$work"/root/boot/{vmlinuz,initrd.img}-* "$root/"
	truncate -s 3G "$root/disk"
	mkfs.ext4 -q -F -L root -d "$work/root" "$root/disk"
	rm -rf "$work/root" "$work/root.tar"
	touch "$root/done"
fi

# The tests and programs, built here, beside the files they read.
echo "building the tests"
suite=$work/suite
mkdir -p "$suite/src" "$suite/bin" "$suite/tests" "$suite/tmp"
git ls-files -z | tar --null -T - -cf - | tar -C "$suite/src" --no-same-owner -xf -
cp "$here/guest.sh" "$here/suite.txt" "$suite/"
cp "$here/go.sh" "$suite/bin/go"
go build -o "$work/testreport" ./internal/testreport
export CGO_ENABLED=0
go build -trimpath -o "$suite/bin/" ./cmd/rootstock ./cmd/rootstock-cell ./cmd/rootstock-plugin ./cmd/rootstock-plugin/testdata/inside cmd/test2json
while read -r pkg _; do
	[[ $pkg =~ ${PACKAGES:-.} ]] || { sed -i "\\|^$pkg |d" "$suite/suite.txt"; continue; }
	go test -c -trimpath -ldflags=-s -o "$suite/tests/${pkg//\//.}" "./$pkg"
done < <(lines "$here/suite.txt")
lines "$suite/suite.txt" >"$suite/suite" && mv "$suite/suite" "$suite/suite.txt"
[ -s "$suite/suite.txt" ] || { echo "no package of suite.txt matches ${PACKAGES:-}" >&2; exit 1; }
# Its file system has what this machine's may lack: project quotas.
truncate -s 8G "$work/disk"
mkfs.ext4 -q -F -L suite -O quota,project -E quotatype=prjquota -d "$suite" "$work/disk"
rm -rf "$suite"

# boot SECONDS ARGUMENTS... starts a machine that is killed after that time.
boot() {
	local seconds=$1
	shift
	TMPDIR=$work timeout --signal=KILL "$seconds" qemu-system-x86_64 -nodefaults -display none -no-reboot \
		-m 2048 -smp 2 "$@" </dev/null 2>"$work/qemu" &
	qemu=$!
}
ended() {
	local status=0
	wait "$qemu" 2>/dev/null || status=$? # what it says itself is in $work/qemu
	qemu=
	return $status
}

# A /dev/kvm that is there need not boot a kernel (a machine in a machine), so
# this tries: a kernel without a root panics, which ends the machine.
accel="-accel tcg,thread=multi -cpu max"
if [ -w /dev/kvm ]; then
	boot 15 -accel kvm -cpu host -kernel "$(printf '%s\n' "$root"/vmlinuz-* | head -n 1)" -serial "file:$work/kvm" -append "console=ttyS0 panic=-1"
	if ended && grep -q 'Kernel panic' "$work/kvm"; then accel="-accel kvm -cpu host"; fi
fi
case $accel in *tcg*) echo "no /dev/kvm that works: the machines are emulated, which takes many times as long" ;; esac

# Emulated, the suite takes some 20 minutes of two processors that have nothing
# else to do.
limit=3600
code=0
while read -r version _ expect; do
	[ "${KERNEL:-$version}" = "$version" ] || continue
	kernel=$(printf '%s\n' "$root"/vmlinuz-"$version"[.-]* | tail -n 1)
	release=${kernel##*/vmlinuz-}
	printf '\n== Linux %s: %s\n' "$release" "$expect"
	: >"$work/results"
	# shellcheck disable=SC2086 # a list of words
	boot "$limit" $accel -kernel "$kernel" -initrd "$root/initrd.img-$release" \
		-append "root=/dev/vda rw console=ttyS0 panic=-1 quiet init=/suite/init kernel.expect=${expect// /,}" \
		-drive "file=$root/disk,format=raw,if=virtio,snapshot=on" -drive "file=$work/disk,format=raw,if=virtio,snapshot=on" \
		-serial "file:$work/console" -serial "file:$work/results"
	tail -f -c +1 -s 0.2 --pid="$qemu" "$work/results" | "$work/testreport" &
	wait $! || code=1 # in the background, since a shell that waits for others hears no signal
	ended || true
	if ! grep -qx "every package of the suite ran" "$work/results"; then
		echo "Linux $release did not get to the suite's end, for which it has $limit s; it said:" >&2
		cat "$work/qemu" "$work/console" | tail -n 40 >&2
		code=1
	fi
done < <(lines "$here/kernels.txt")
[ -n "${release:-}" ] || { echo "kernels.txt has no $KERNEL" >&2; code=1; }
exit $code
