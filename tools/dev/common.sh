# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What ./dev's parts share: messages, the cache of things made once a machine. Sourced; expects set -euo pipefail.

export ROOT
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${WSLX_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/wslx}

die()
{
	printf '%s: %s\n' "${PROG:-dev}" "$*" >&2
	exit 125
}

# cached NAME FUNCTION [ARG...]: the path $CACHE/NAME, made by "FUNCTION ARG... DIR" in a fresh directory DIR when it is
# not there. It appears whole or not at all; of several who want it at once, one makes it and the others wait. NAME says
# what went into it (a version, a checksum): what has the same name is the same.
cached()
{
	local name=$1 tmp
	shift
	if [[ ! -e $CACHE/$name ]]; then
		mkdir -p "$CACHE"
		(
			flock 9
			[[ ! -e $CACHE/$name ]] || exit 0
			tmp=$(mktemp -d "$CACHE/.tmp.XXXXXX")
			# An interrupted attempt leaves nothing behind, files of another user included.
			trap 'rm -rf "$tmp" || as_root rm -rf "$tmp"' EXIT
			chmod 755 "$tmp"
			"$@" "$tmp" >&2
			mv -T "$tmp" "$CACHE/$name"
		) 9>"$CACHE/.${name%%-*}.lock" || return
	fi
	printf '%s\n' "$CACHE/$name"
}

# key FILE...: a short name for these files' contents.
key()
{
	cat -- "$@" | sha256sum | cut -c1-12
}

as_root()
{
	if [[ $(id -u) = 0 ]]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "need root for: $* (no sudo here)"
	fi
}

# stage TEXT ... stage_done: what is being done, and how long it took; on a terminal with the seconds counting. Goes to
# stderr: stdout belongs to the command that is run in the end. Quiet with WSLX_DEV_QUIET; no counting with
# WSLX_STAGE_PLAIN; STAGE_MIN_MS leaves out what took less.
STAGE_TEXT='' STAGE_START='' STAGE_TICKER='' STAGE_MIN_MS=0

stage()
{
	[[ -z ${WSLX_DEV_QUIET:-} ]] || return 0
	STAGE_TEXT=$* STAGE_START=$(date +%s%N)
	[[ -t 2 && -z ${WSLX_STAGE_PLAIN:-} ]] || return 0
	(
		trap - EXIT
		trap exit TERM
		while :; do
			printf '\r\033[K%6s s  %s' "$(seconds_since "$STAGE_START")" "$STAGE_TEXT" >&2
			sleep 0.5
		done
	) &
	STAGE_TICKER=$!
}

stage_stop()
{
	if [[ -n $STAGE_TICKER ]]; then
		kill "$STAGE_TICKER" 2>/dev/null || true
		wait "$STAGE_TICKER" 2>/dev/null || true
		STAGE_TICKER=''
		printf '\r\033[K' >&2
	fi
}

stage_done()
{
	[[ -n $STAGE_TEXT ]] || return 0
	stage_stop
	[[ $((($(date +%s%N) - STAGE_START) / 1000000)) -lt $STAGE_MIN_MS ]] ||
		printf '%6s s  %s\n' "$(seconds_since "$STAGE_START")" "$STAGE_TEXT${1:+: $1}" >&2
	STAGE_TEXT=''
}

seconds_since()
{
	local ms=$((($(date +%s%N) - $1) / 1000000))
	printf '%d.%02d' $((ms / 1000)) $((ms % 1000 / 10))
}

trap stage_stop EXIT
