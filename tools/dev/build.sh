# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2153 # ROOT is common.sh's
# Building with Meson: the host's programs in build/, the guest's in build/guest (musl, static). Sourced after common.sh.

# meson_build DIR [SETUP OPTION...]: configured once; Meson reconfigures by itself when its files change.
meson_build()
{
	local dir=$1
	shift

	if [[ ! -f $dir/build.ninja ]]; then
		meson setup "$@" "$dir" "$ROOT"
	fi
	ninja -C "$dir"
}

build_all()
{
	local log

	mkdir -p "$ROOT/build"
	log=$(mktemp "$ROOT/build/log.XXXXXX")
	(
		flock 9
		meson_build "$ROOT/build" && CC=musl-gcc meson_build "$ROOT/build/guest" -Dguest=true --buildtype=minsize &&
			ln -sfn guest/wslx-init "$ROOT/build/guest/wslx-init"
	) 9>"$ROOT/build/.lock" >"$log" 2>&1 || {
		grep -E -A12 'error:|ERROR|FAILED' "$log" >&2 || tail -n 30 "$log" >&2
		rm -f "$log"
		die "the build failed"
	}
	rm -f "$log"
}
