# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2153 # ROOT is common.sh's
# libFuzzer on the parsers, in a build of their own with clang and sanitizers. Sourced after common.sh.

FUZZ_BUILD=$ROOT/build-fuzz

# "PROGRAM TARGET" of each: a program's name begins with "fuzz-".
fuzz_programs()
{
	[[ -f $FUZZ_BUILD/build.ninja ]] || CC=clang-14 meson setup -Dfuzz=true -Db_lundef=false "$FUZZ_BUILD" "$ROOT" >/dev/null
	# the list is of the sources as they are now
	ninja -C "$FUZZ_BUILD" build.ninja >/dev/null || die "the build failed"
	ninja -C "$FUZZ_BUILD" -t targets rule c_LINKER 2>/dev/null | sed -n 's|^\(.*/fuzz-\(.*\)\)$|\1 \2|p' | sort -k2
}

# fuzz_verb [TARGET [SECONDS]]: new inputs go to build-fuzz/corpus, what crashes to build-fuzz/crash.
fuzz_verb()
{
	local target=${1:-} seconds=${2:-60} build=$FUZZ_BUILD program

	need build fuzz
	if [[ -z $target ]]; then
		fuzz_programs | cut -d ' ' -f 2
		return
	fi
	program=$(fuzz_programs | awk -v t="$target" '$2 == t { print $1 }')
	[[ -n $program ]] || die "no fuzz target $target; ./dev fuzz lists them"
	ninja -C "$build" "$program" >/dev/null || die "the build failed"
	mkdir -p "$build/corpus/$target" "$build/crash"
	local seeds=$ROOT/tests/corpus/$target
	[[ -d $seeds ]] || seeds=
	"$build/$program" -max_total_time="$seconds" -artifact_prefix="$build/crash/$target-" \
		"$build/corpus/$target" ${seeds:+"$seeds"}
}
