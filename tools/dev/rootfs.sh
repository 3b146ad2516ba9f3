# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2016 # the $ in formats and hooks are for apt and mmdebstrap
# Root file systems by mmdebstrap, from the package sources this machine itself uses. Sourced after common.sh.

own_codename()
{
	(. /etc/os-release && [[ $ID = debian ]] && printf '%s' "${VERSION_CODENAME:-}")
}

# One-line sources for mmdebstrap: the Debian ones of this machine, in its release.
apt_sources()
{
	local codename lines key=/usr/share/keyrings/debian-archive-keyring.gpg
	codename=$(own_codename) || true
	lines=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 2>/dev/null | awk -v code="$codename" -v key="$key" '
		$1 == "Debian" && (code == "" || index($3, code) == 1) && !seen[$2 $3 $4]++ {
			printf "deb [signed-by=%s] %s %s %s\n", key, $2, $3, $4
		}')
	[[ -n $lines ]] || die "apt knows no Debian package source; run apt-get update, or add one to its sources"
	printf '%s\n' "$lines"
}

# release_sources CODENAME: the same places' suites of that release.
release_sources()
{
	local here
	here=$(apt_codename)
	apt_sources | awk -v here="$here" -v want="$1" '{ sub("^" here, want, $4); print }'
}

# The release those sources are of; a machine without any, as the lab, may still know its own.
apt_codename()
{
	local codename
	codename=$(own_codename) || true
	if [[ -n $codename ]]; then
		printf '%s\n' "$codename"
		return
	fi
	apt_sources | awk '{print $4}' | grep -v -e - | head -1
}

mmdebstrap_mode()
{
	# As root, root mode works in a container without the right to mount too (mmdebstrap then skips its mounts).
	if [[ $(id -u) = 0 ]]; then
		echo root
	elif unshare --user --map-root-user true 2>/dev/null && command -v newuidmap >/dev/null; then
		echo unshare
	else
		echo sudo
	fi
}

make_rootfs_tar()
{
	local recipe=$1 dir=$2 variant packages codename mode proxy run=()

	codename=$(apt_codename)
	# shellcheck disable=SC1090
	. "$recipe"
	mode=$(mmdebstrap_mode)
	if [[ $mode = sudo ]]; then
		run=(as_root)
		mode=root
	fi
	proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | grep -v '""' || true)
	release_sources "$codename" >"$dir/sources"
	# A download that broke off is worth a second attempt; anything else fails the same way twice and says why.
	local try
	for try in 1 2; do
		if "${run[@]}" mmdebstrap --quiet --mode="$mode" --variant="$variant" --format=tar \
			--include="${packages// /,}" ${proxy:+--aptopt="$proxy"} \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
			--customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf"' \
			"$codename" - "$dir/sources" >"$dir/root.tar" 2>"$dir/log"; then
			rm -f "$dir/log"
			return
		fi
		printf 'mmdebstrap failed (attempt %s)\n' "$try" >&2
	done
	tail -n 20 "$dir/log" >&2
	return 1
}

# rootfs_tar RECIPE: prints the path of the tar file. A recipe that sets codename is of that release, others of this machine's.
rootfs_tar()
{
	local recipe=$ROOT/tools/dev/rootfs/$1 dir
	local files=("$recipe")

	# It begins with another one.
	[[ $1 != *-bench ]] || files+=("${recipe%-bench}")
	dir=$(cached "root-$1-$(apt_codename)-$(key "${files[@]}")" make_rootfs_tar "$recipe") || return
	printf '%s\n' "$dir/root.tar"
}
