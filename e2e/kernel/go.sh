#!/bin/sh
# Stands in for the compiler in the guest: `go build … -o TARGET PACKAGES…` gives
# out the programs that were built outside.
set -eu
[ "$1" = build ] || { echo "go $1: there is no Go in this machine" >&2; exit 1; }
shift
target=
while [ $# -gt 0 ]; do
	case $1 in
	-o) target=$2; shift ;;
	-*) ;;
	.) cp "/suite/disk/bin/$(basename "$PWD")" "$target" ;;
	*) cp "/suite/disk/bin/$(basename "$1")" "$target" ;;
	esac
	shift
done
