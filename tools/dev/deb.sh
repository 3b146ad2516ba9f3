# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2153 # ROOT is common.sh's
# Debian packages, built from debian/ in a copy of the tree. Sourced after common.sh and packages.sh.

DEB=$ROOT/build/deb

# Every file that belongs to the source, tracked or new, but not ignored.
source_files()
{
	git -C "$ROOT" ls-files -z -co --exclude-standard | (
		cd "$ROOT" || exit
		while IFS= read -r -d '' f; do
			[[ ! -e $f && ! -L $f ]] || printf '%s\0' "$f"
		done
	)
}

# What the packages are made of, as one checksum.
source_key()
{
	source_files | LC_ALL=C sort -z | (cd "$ROOT" && xargs -0 sha256sum) | sha256sum | cut -c1-16
}

build_packages()
{
	local work=$DEB/.work version

	version=$(dpkg-parsechangelog -l "$ROOT/debian/changelog" -S Version)
	rm -rf "$DEB"
	mkdir -p "$work/wslx-$version"
	source_files | tar -C "$ROOT" --null -T - -cf - | tar -C "$work/wslx-$version" -xf -
	# ./dev test runs the tests; a builder of Debian's runs them here.
	(cd "$work/wslx-$version" && DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" dpkg-buildpackage -us -uc -F) || return
	find "$work" -maxdepth 1 -type f -exec mv -t "$DEB" {} + && rm -rf "$work"
}

# deb_verb: the packages in build/deb, made anew when the sources have changed.
deb_verb()
{
	local key log

	need build deb
	key=$(source_key)
	if [[ ! -f $DEB/.key || $(<"$DEB/.key") != "$key" ]]; then
		stage "packages"
		mkdir -p "$ROOT/build"
		log=$(mktemp "$ROOT/build/log.XXXXXX")
		if ! build_packages >"$log" 2>&1; then
			grep -E -A12 'error:|ERROR|FAILED' "$log" >&2 || tail -n 30 "$log" >&2
			die "the packages cannot be built; $log has the rest"
		fi
		mv "$log" "$DEB/build.log"
		printf '%s\n' "$key" >"$DEB/.key"
		stage_done
	fi
	find "$DEB" -maxdepth 1 -name '*.deb' | sort
}
