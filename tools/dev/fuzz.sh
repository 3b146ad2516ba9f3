# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2153 # ROOT is common.sh's
# libFuzzer on the parsers, in a build of their own with clang and sanitizers. Sourced after common.sh.

fuzz_targets()
{
	(cd "$ROOT" && git ls-files '*fuzz-*.c' | sed 's|.*/fuzz-||; s|\.c$||' | grep -vx replay | sort)
}

# fuzz_verb [TARGET [SECONDS]]: new inputs go to build-fuzz/corpus, what crashes to build-fuzz/crash.
fuzz_verb()
{
	local target=${1:-} seconds=${2:-60} build=$ROOT/build-fuzz program

	if [[ -z $target ]]; then
		fuzz_targets
		return
	fi
	fuzz_targets | grep -qx -e "$target" || die "no fuzz target $target; ./dev fuzz lists them"
	need build fuzz
	[[ -f $build/build.ninja ]] || CC=clang-14 meson setup -Dfuzz=true -Db_lundef=false "$build" "$ROOT" >/dev/null
	program=$(ninja -C "$build" -t targets all | sed -n "s|^\([^:]*/fuzz-$target\): .*|\1|p")
	[[ -n $program ]] || die "fuzz-$target is in no meson.build"
	ninja -C "$build" "$program" >/dev/null || die "the build failed"
	mkdir -p "$build/corpus/$target" "$build/crash"
	local seeds=$ROOT/tests/corpus/$target
	[[ -d $seeds ]] || seeds=
	"$build/$program" -max_total_time="$seconds" -artifact_prefix="$build/crash/$target-" \
		"$build/corpus/$target" ${seeds:+"$seeds"}
}
