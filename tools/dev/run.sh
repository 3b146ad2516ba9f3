# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # ROOT and CACHE are common.sh's
# Everything from a clone to a command inside a distribution. Sourced after common.sh and its other parts.

WSLX=$ROOT/build/cli/wslx
DATA=${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/wslx

make_vmlinux()
{
	"$ROOT/build/vmm/wslx-vmm" --kernel "$1/vmlinuz" --extract-kernel "$2/vmlinux"
}

make_initramfs()
{
	"$ROOT/tools/mkinitramfs" --kernel "$1" --init "$ROOT/build/guest/wslx-init" --list "$ROOT/kernel/modules" \
		-o "$2/initramfs"
}

# The kernel and initramfs that wslxd finds by default: links in its data folder to what the cache holds.
install_kernel()
{
	local kernel vmlinux initramfs init=$ROOT/build/guest/wslx-init

	kernel=$("$ROOT/kernel/fetch")
	# Unpacking the kernel takes about as long as booting it: done once.
	vmlinux=$(cached "vmlinux-${kernel##*/kernel-}" make_vmlinux "$kernel")
	initramfs=$(cached "initramfs-${kernel##*/kernel-}-$(key "$init" "$ROOT/kernel/modules" "$ROOT/tools/mkinitramfs")" \
		make_initramfs "$kernel")
	mkdir -p "$DATA/kernel"
	replace_link "$vmlinux/vmlinux" "$DATA/kernel/vmlinuz"
	replace_link "$initramfs/initramfs" "$DATA/kernel/initrd.img"
	# Initramfs images of programs since rebuilt, unless another tree has used them this week.
	touch "$initramfs"
	find "$CACHE" -maxdepth 1 -name 'initramfs-*' -mtime +7 -exec rm -rf {} + 2>/dev/null || true
}

replace_link()
{
	[[ $(readlink "$2" 2>/dev/null) != "$1" ]] || return 0
	ln -sfn "$1" "$2.$$"
	mv -T "$2.$$" "$2"
}

has_distribution()
{
	"$WSLX" --list --quiet 2>/dev/null | grep -qxF "$1"
}

# import NAME RECIPE: registers a distribution made from a recipe of tools/dev/rootfs unless it is there.
import_distribution()
{
	local name=$1 tar

	stage "root file system of distribution $name"
	tar=$(rootfs_tar "$2")
	stage_done
	stage "import distribution $name"
	"$WSLX" --import "$name" "$DATA/distros/$name" "$tar" >&2 9>&-
	stage_done
}

setup_distribution()
{
	stage "build"
	build_all
	stage_done
	stage "kernel and initramfs"
	install_kernel
	stage_done
	has_distribution "$1" || import_distribution "$1" "$2"
}

demo_script()
{
	cat <<-'END'
	say() { printf '\n$ %s\n' "$*"; "$@"; }
	say uname -a
	say grep -E '^(PRETTY_NAME|VERSION_ID)=' /etc/os-release
	say id
	say df -h /
	say cat /proc/self/cgroup
	say ls -l /proc/self/ns | awk 'NF > 8 {print $9, $11} NF <= 8'
	END
}

# run_verb [-- CMD ARG...]
run_verb()
{
	local start took status=0

	# Before a command of the user's only what made them wait is worth a line.
	# shellcheck disable=SC2034 # common.sh reads it
	[[ $# -eq 0 ]] || STAGE_MIN_MS=1000
	need build run
	setup_distribution debian debian
	if [[ $# -gt 0 ]]; then
		"$WSLX" -d debian -- "$@" || status=$?
		return "$status"
	fi
	stage "start the virtual machine and the distribution"
	"$WSLX" -d debian -- true || return
	stage_done "$("$WSLX" --status 2>/dev/null | grep -i -m1 engine || true)"
	start=$(date +%s%N)
	"$WSLX" -d debian -- sh -c "$(demo_script)" || status=$?
	took=$(seconds_since "$start")
	printf '\n%6s s  demonstration in the running distribution\n' "$took" >&2
	return "$status"
}
