# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Installs what is missing of tools/dev/packages. Sourced after common.sh.

# packages_of GROUP...
packages_of()
{
	local group

	for group in "$@"; do
		sed -n "s/^$group://p" "$ROOT/tools/dev/packages"
	done | tr -s ' ' '\n' | sort -u | sed '/^$/d'
}

missing_of()
{
	local pkg

	for pkg in $(packages_of "$@"); do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$pkg" 2>/dev/null) = installed ]] || printf '%s\n' "$pkg"
	done
}

# need GROUP...: the packages of these groups are installed when this returns.
need()
{
	local missing log stamp

	stamp="$CACHE/.installed-$(key "$ROOT/tools/dev/packages")-$*"
	stamp=${stamp// /-}
	# Asking dpkg for each package costs a second; dpkg's own file says whether anything has changed since.
	[[ $stamp -nt /var/lib/dpkg/status ]] && return
	command -v dpkg-query >/dev/null || die "this needs Debian's dpkg and apt; on another system install: $(packages_of "$@" | xargs)"
	mapfile -t missing < <(missing_of "$@")
	if [[ ${#missing[@]} -gt 0 ]]; then
		stage "install ${missing[*]}"
		log=$(mktemp)
		# The lists may be absent (a container image) or older than the archive: update only when that shows.
		if ! apt_install "${missing[@]}" >"$log" 2>&1; then
			as_root apt-get -q update >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get update failed"; }
			apt_install "${missing[@]}" >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get install failed"; }
		fi
		rm -f "$log"
		stage_done
	fi
	mkdir -p "$CACHE"
	touch "$stamp"
}

apt_install()
{
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
		-o Dpkg::Use-Pty=0 install "$@"
}
