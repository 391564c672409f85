package thinbuildpack

import (
	"slices"
	"strings"
)

// script is bin/NAME: a POSIX shell script that needs nothing but the shell.
func (d *Descriptor) script(name string) string {
	version := ""
	if d.Ref.Version != "" {
		version = d.Version
	}
	// Diego calls other scripts if these two are there than if they are not.
	shape := func(script string) string {
		if slices.Contains(d.Has, script) {
			return "yes"
		}
		return "no"
	}
	real := d.Mount
	if d.Dir != "" {
		real += "/" + d.Dir
	}
	return strings.NewReplacer(
		"@REF@", quote(d.Ref.String()), "@MOUNT@", quote(d.Mount), "@REAL@", quote(real), "@NAME@", quote(name),
		"@VERSION@", quote(version), "@SUPPLY@", quote(shape("supply")), "@FINALIZE@", quote(shape("finalize")),
	).Replace(text)
}

// quote makes s one word of the shell's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// text says on standard error what is missing, since what detect and release
// say on standard output means something to Diego.
const text = `#!/bin/sh
# A thin buildpack: runs the published one from where rootstock-plugin mounts it.
ref=@REF@
mount=@MOUNT@
real=@REAL@
script=@NAME@
version=@VERSION@
supply=@SUPPLY@
finalize=@FINALIZE@

fail() {
	echo "thin buildpack $ref: bin/$script cannot run:" >&2
	for line in "$@"; do
		echo "  $line" >&2
	done
	exit 1
}

is() {
	if [ -e "$real/bin/$1" ]; then echo yes; else echo no; fi
}

again="Write the thin buildpack anew and upload it: rootstock thin-buildpack $ref FILE --store STORE"

if [ ! -e "$real/bin" ]; then
	fail "no buildpack is mounted at $mount in this container." \
		"rootstock-plugin mounts it there if \"buildpacks\" in its configuration has $mount" \
		"under \"mounts\", a \"handles\" that fits this staging container, and the app's" \
		"stack is one of its \"stacks\". On a cell without rootstock-plugin only the full" \
		"buildpack works: upload that instead."
fi
if [ "$(is supply)" != "$supply" ] || [ "$(is finalize)" != "$finalize" ]; then
	fail "the buildpack at $mount has other scripts than the one this was written for" \
		"(bin/supply: $supply then, $(is supply) now; bin/finalize: $finalize then, $(is finalize) now)." "$again"
fi
if [ ! -x "$real/bin/$script" ]; then
	fail "the buildpack at $mount has no such script, or it is not executable." "$again"
fi
if [ -n "$version" ]; then
	there=
	if [ -r "$real/VERSION" ]; then read -r there <"$real/VERSION" || :; fi
	if [ "$there" != "$version" ]; then
		fail "version ${there:-(none)} is mounted at $mount, and this was written for $version." \
			"Let \"mounts\" in the plugin's configuration name that version. Or: $again"
	fi
fi
exec "$real/bin/$script" "$@"
`
