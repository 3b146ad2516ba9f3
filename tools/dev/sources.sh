# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Debian source packages, whose own tests the guest runs. Sourced after common.sh and rootfs.sh.

# Prints the version of the source that a binary package, in the version apt would install, was built from.
source_version()
{
	apt-cache show --no-all-versions "$1" 2>/dev/null | awk '
		/^Version:/ { version = $2 }
		/^Source:/ && $3 { source = $3 }
		END { gsub(/[()]/, "", source); print source ? source : version }'
}

# Unpacked, with Debian's patches, to DIR/tree. The machine's sources need not name source packages: apt gets a list of its
# own that does, and lists and caches of its own.
unpack_source()
{
	local package=$1 version=$2 dir=$3 apt=$3/apt options

	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	apt_sources | sed 's/^deb /deb-src /' >"$apt/sources.list"
	options=(-q -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
	apt-get "${options[@]}" update || die "apt-get update failed for source packages"
	(cd "$dir" && apt-get "${options[@]}" source "$package=$version") ||
		die "cannot get the source of $package $version; is the machine's package list out of date (apt-get update)?"
	rm -rf "$apt"
	find "$dir" -maxdepth 1 -type f -delete
	mv "$dir"/* "$dir/tree"
}

# source_tree PACKAGE BINARY: prints the path of the source package that this binary package of it was built from.
source_tree()
{
	local version dir

	version=$(source_version "$2")
	[[ -n $version ]] || die "apt knows no $2; run apt-get update"
	dir=$(cached "source-$1-${version//[^A-Za-z0-9.+~-]/_}" unpack_source "$1" "$version") || return
	printf '%s\n' "$dir/tree"
}
