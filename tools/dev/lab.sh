# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2153 # ROOT is common.sh's
# The KVM lab: a QEMU-emulated machine with SVM in which /dev/kvm works (tests/lab/lab). Sourced after common.sh.

make_lab_initramfs()
{
	"$ROOT/tools/mkinitramfs" --kernel "$1" --init "$ROOT/tests/lab/init" --list "$ROOT/tests/lab/modules" \
		--add /bin/busybox=bin/busybox --add busybox=@bin/sh -o "$2/initramfs"
}

make_lab_root()
{
	# Not compressed: the emulated machine would spend its time on that.
	sqfstar -quiet -no-progress -noI -noD -noF -noX "$2/root.squashfs" <"$1" 2>"$2/log" ||
		{ cat "$2/log"; return 1; }
}

# lab_run [--bench] [LAB OPTION...] [-- COMMAND ARG...]: --bench: with what benchmarks compare with.
lab_run()
{
	local kernel image initramfs tar root recipe=lab

	if [[ ${1:-} = --bench ]]; then
		recipe=lab-bench
		shift
	fi

	kernel=$("$ROOT/kernel/fetch")
	# Unpacked if it is at hand: the emulated machine takes seconds to unpack it itself.
	image=$CACHE/vmlinux-${kernel##*/kernel-}/vmlinux
	[[ -e $image ]] || image=$kernel/vmlinuz
	initramfs=$(cached "labinit-${kernel##*/}-$(key "$ROOT"/tests/lab/{init,modules} "$ROOT/tools/mkinitramfs" /bin/busybox)" \
		make_lab_initramfs "$kernel")
	tar=$(rootfs_tar "$recipe")
	root=$(dirname "${tar#"$CACHE"/root-}")
	root=$(cached "labroot-${root#lab-}" make_lab_root "$tar")
	# What runs in it has the same cache, which is shared with it.
	WSLX_CACHE=$CACHE "$ROOT/tests/lab/lab" --kernel "$image" --initramfs "$initramfs/initramfs" \
		--root "$root/root.squashfs" --tree "$ROOT" --share "$CACHE" "$@"
}

lab_verb()
{
	need build run lab
	if [[ ${1:-} = --bench ]]; then
		# Nothing can be built or fetched in there.
		build_all
		install_kernel
		export WSLX_KERNEL=${WSLX_KERNEL:-$(realpath "$DATA/kernel/vmlinuz")}
		export WSLX_INITRD=${WSLX_INITRD:-$(realpath "$DATA/kernel/initrd.img")}
	fi
	lab_run "$@"
}
