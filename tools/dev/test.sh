# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2153 # ROOT is common.sh's
# The test suites. Each leaves a result in build/results/SUITE.KIND, which tools/dev/tally counts. Sourced after common.sh.

RESULTS=$ROOT/build/results

# Suite names and what they are, in the order they run.
test_suites()
{
	cat <<-'END'
	lint        formatting, layers, shellcheck, codespell, cppcheck
	unit        unit and fuzz-replay tests, gcc
	unit-clang  the same, built by clang, without whole commands
	unit-asan   the same, with address and undefined-behaviour sanitizers
	guest       the guest's libraries under musl
	tools       this repository's own tools
	cpu-fuzz    20 million random instructions, software CPU against this machine's processor
	vmm         whole machines: stock kernel, disks, snapshots, on the software CPU with 1 and 2 virtual CPUs
	devices     virtio devices under a stock kernel, software CPU
	files       the file server under this machine's own kernel: POSIX cases, random loads (root)
	e2e         whole commands through wslx, software CPU: streams, terminals, errors, imports, crashes, real work
	packages    the Debian packages: lintian, and installed, used and removed in a fresh minimal Debian
	lab         in the lab, a machine with a working /dev/kvm: the KVM back end's tests, and of suite vmm what depends on it
	lab-devices in the lab: virtio devices on KVM
	lab-e2e-1   in the lab: whole commands on KVM with one virtual CPU: starting, stopping, dying, systemd
	lab-e2e-2   in the lab: the same with two: streams, processors, a crash
	END
}

# Those that run only when they are named.
long_suites()
{
	cat <<-'END'
	suites      zlib, SQLite and Python pass their own tests on the software CPU as they do natively (half an hour, as root)
	lab-vmm     suite vmm whole on KVM, with 1 and 2 virtual CPUs (a quarter of an hour)
	lab-e2e     on KVM all that suite e2e has of errors, imports, the service, systemd, streams, terminals, work (an hour)
	END
}

# meson_suite NAME BUILDDIR [MESON TEST OPTION...]
meson_suite()
{
	local name=$1 dir=$2
	shift 2

	rm -f "$dir/meson-logs/$name.json"
	meson test -C "$dir" --no-rebuild --logbase "$name" --print-errorlogs "$@" >"$RESULTS/$name.log" 2>&1 || true
	if [[ -s $dir/meson-logs/$name.json ]]; then
		cp "$dir/meson-logs/$name.json" "$RESULTS/$name.meson"
	else
		tail -n 3 "$RESULTS/$name.log" >"$RESULTS/$name.broken"
	fi
}

# built NAME DIR [ENV=VALUE...] [SETUP OPTION...]: a build of its own; says so in the results when it fails.
built()
{
	local name=$1 dir=$2 vars=()
	shift 2

	while [[ ${1:-} = *=* && $1 != -* ]]; do
		vars+=("$1")
		shift
	done
	if [[ ! -f $dir/build.ninja ]]; then
		env "${vars[@]}" meson setup "$dir" "$ROOT" "$@" >"$RESULTS/$name.log" 2>&1 || rm -f "$dir/build.ninja"
	fi
	if ! ninja -C "$dir" >>"$RESULTS/$name.log" 2>&1; then
		{ echo "the build failed:"; grep -m3 -E 'error|ERROR' "$RESULTS/$name.log"; } >"$RESULTS/$name.broken"
		return 1
	fi
}

# pytest_suite NAME FOLDER [OPTION...]: ended after PYTEST_LIMIT seconds.
pytest_suite()
{
	local name=$1 folder=$2
	shift 2

	timeout -k 10 "${PYTEST_LIMIT:-1800}" /usr/bin/python3 -m pytest -vv -p no:cacheprovider --junit-xml "$RESULTS/$name.junit" "$@" "$folder" \
		>"$RESULTS/$name.log" 2>&1 || true
	[[ -s $RESULTS/$name.junit ]] || tail -n 5 "$RESULTS/$name.log" >"$RESULTS/$name.broken"
}

suite_lint()
{
	"$ROOT/tools/dev/lint" >"$RESULTS/lint.checks" 2>&1 || true
	cp "$RESULTS/lint.checks" "$RESULTS/lint.log"
}

suite_unit()
{
	meson_suite unit "$ROOT/build" --no-suite lab
}

suite_unit-clang()
{
	built unit-clang "$ROOT/build-clang" CC=clang-14 || return 0
	meson_suite unit-clang "$ROOT/build-clang" --no-suite lab --no-suite e2e --no-suite service
}

suite_unit-asan()
{
	built unit-asan "$ROOT/build-asan" -Db_sanitize=address,undefined || return 0
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 meson_suite unit-asan "$ROOT/build-asan" --no-suite lab --no-suite e2e -t 4
}

suite_guest()
{
	meson_suite guest "$ROOT/build/guest"
}

suite_tools()
{
	pytest_suite tools "$ROOT/tests/tools"
}

suite_cpu-fuzz()
{
	# Not built where its disassembler is missing: then this fails.
	if "$ROOT/build/tests/cpu/cpu-diff" --count 20000000 --seed 2 >"$RESULTS/cpu-fuzz.log" 2>&1; then
		echo "ok $(tail -n 1 "$RESULTS/cpu-fuzz.log")" >"$RESULTS/cpu-fuzz.checks"
	else
		tail -n 3 "$RESULTS/cpu-fuzz.log" >"$RESULTS/cpu-fuzz.broken"
	fi
}

suite_vmm()
{
	local cpus

	install_kernel >"$RESULTS/vmm.log" 2>&1 || { echo "no kernel" >"$RESULTS/vmm.broken"; return 0; }
	for cpus in 1 2; do
		WSLX_TEST_ENGINE=soft WSLX_TEST_CPUS=$cpus pytest_suite "vmm-$cpus" "$ROOT/tests/vmm"
	done
}

# lab_pytest NAME CPUS FILE...: pytest in the lab, on KVM.
lab_pytest()
{
	local name=$1 cpus=$2

	WSLX_TEST_ENGINE=kvm WSLX_TEST_CPUS=$cpus WSLX_TEST_KERNEL=$(realpath "$DATA/kernel/vmlinuz") \
		WSLX_TEST_INITRD=$(realpath "$DATA/kernel/initrd.img") WSLX_CACHE=$CACHE \
		lab_run --timeout 3600 --console "$RESULTS/$name.console" -- /usr/bin/python3 -m pytest -vv \
		-p no:cacheprovider -m 'not slow' --junit-xml "$RESULTS/$name.junit" "${@:3}" \
		>"$RESULTS/$name.log" 2>&1 </dev/null || true
	[[ -s $RESULTS/$name.junit ]] || tail -n 5 "$RESULTS/$name.log" >"$RESULTS/$name.broken"
}

# What whole-command tests are told: tests/e2e/conftest.py reads these.
e2e_environment()
{
	WSLX_TEST_ROOTFS=$(rootfs_tar debian) && WSLX_TEST_WORK_ROOTFS=$(rootfs_tar test) &&
		WSLX_TEST_SYSTEMD_ROOTFS=$(rootfs_tar systemd) && WSLX_TEST_PODMAN_ROOTFS=$(rootfs_tar podman) &&
		WSLX_TEST_TRIXIE_ROOTFS=$(rootfs_tar trixie) || return
	export WSLX_TEST_ROOTFS WSLX_TEST_WORK_ROOTFS WSLX_TEST_SYSTEMD_ROOTFS WSLX_TEST_PODMAN_ROOTFS WSLX_TEST_TRIXIE_ROOTFS
	install_kernel
}

# The device tests' own guest, and what tests/devices/conftest.py reads.
devices_environment()
{
	export WSLX_TEST_DEVICES=$ROOT/build/devices.initramfs WSLX_TEST_VMLINUX

	install_kernel && "$ROOT/tests/devices/make-initramfs" "$("$ROOT/kernel/fetch")" "$WSLX_TEST_DEVICES" || return
	WSLX_TEST_VMLINUX=$(realpath "$DATA/kernel/vmlinuz")
}

suite_files()
{
	pytest_suite files "$ROOT/tests/fs"
}

suite_devices()
{
	devices_environment >"$RESULTS/devices.log" 2>&1 || { echo "no guest to test with" >"$RESULTS/devices.broken"; return 0; }
	WSLX_TEST_ENGINE=soft pytest_suite devices "$ROOT/tests/devices"
}

suite_lab-devices()
{
	devices_environment >"$RESULTS/lab-devices.log" 2>&1 ||
		{ echo "no guest to test with" >"$RESULTS/lab-devices.broken"; return 0; }
	lab_pytest lab-devices 2 tests/devices
}

suite_e2e()
{
	e2e_environment >"$RESULTS/e2e.log" 2>&1 || { echo "no root file system" >"$RESULTS/e2e.broken"; return 0; }
	# Two files at a time: one waits while the other computes.
	WSLX_TEST_ENGINE=soft PYTEST_LIMIT=3600 pytest_suite e2e "$ROOT/tests/e2e" -m 'not slow' -n 2 --dist loadfile
}

suite_packages()
{
	# In a process of its own: what fails there is this suite's failure, not the end of all.
	(WSLX_DEV_QUIET=1 deb_verb) >"$RESULTS/packages.log" 2>&1 || { tail -n 5 "$RESULTS/packages.log" >"$RESULTS/packages.broken"; return 0; }
	if ! timeout -k 10 1200 "$ROOT/tests/packages/run" "$DEB" >"$RESULTS/packages.checks" 2>>"$RESULTS/packages.log"; then
		tail -n 5 "$RESULTS/packages.log" >"$RESULTS/packages.broken"
	fi
}

suites_environment()
{
	WSLX_TEST_ZLIB=$(source_tree zlib zlib1g) && WSLX_TEST_SQLITE=$(source_tree sqlite3 sqlite3) || return
	export WSLX_TEST_ZLIB WSLX_TEST_SQLITE
	e2e_environment
}

suite_suites()
{
	suites_environment >"$RESULTS/suites.log" 2>&1 ||
		{ echo "no sources or no root file system" >"$RESULTS/suites.broken"; return 0; }
	# What was found, and how long it took, is told of passed tests too.
	WSLX_TEST_ENGINE=soft PYTEST_LIMIT=14400 pytest_suite suites "$ROOT/tests/suites" -rP
}

suite_lab()
{
	rm -f "$ROOT/build/meson-logs/lab.json"
	lab_run --timeout 900 --console "$RESULTS/lab.console" -- meson test -C "$ROOT/build" --no-rebuild --suite lab \
		--logbase lab --print-errorlogs -t 5 >"$RESULTS/lab.log" 2>&1 </dev/null || true
	if [[ -s $ROOT/build/meson-logs/lab.json ]]; then
		cp "$ROOT/build/meson-logs/lab.json" "$RESULTS/lab.meson"
	else
		tail -n 5 "$RESULTS/lab.log" >"$RESULTS/lab.broken"
	fi
	install_kernel >>"$RESULTS/lab.log" 2>&1
	lab_pytest lab-vmm-1 1 tests/vmm/test_machine.py
	lab_pytest lab-vmm-2 2 tests/vmm/test_machine.py::test_{boots_and_powers_off,reset_and_crash_are_told_apart,snapshot_goes_on_where_it_was}
}

suite_lab-vmm()
{
	local cpus

	install_kernel >"$RESULTS/lab-vmm.log" 2>&1 || { echo "no kernel" >"$RESULTS/lab-vmm.broken"; return 0; }
	for cpus in 1 2; do
		lab_pytest "lab-vmm-$cpus" "$cpus" tests/vmm
	done
}

# An exit takes 0.2 ms there, a start of a machine 10 s and more: what the engine can make no difference to is suite lab-e2e's.
suite_lab-e2e-1()
{
	lab_e2e lab-e2e-1 1 tests/e2e/test_import.py::test_what_is_imported_is_what_was_packed \
		tests/e2e/test_service.py::test_{terminate_and_shutdown,idle_distribution_and_vm_stop,many_clients_start_one_vm} \
		tests/e2e/test_service.py::test_{sessions_outlive_the_service,service_killed_while_the_vm_boots} \
		tests/e2e/test_service.py::test_vm_killed_is_told_to_its_clients_and_replaced \
		tests/e2e/test_systemd.py::test_{it_is_running_when_the_first_command_is,users_are_logged_in,a_timer_fires_and_the_journal_tells}
}

suite_lab-e2e-2()
{
	lab_e2e lab-e2e-2 2 tests/e2e/test_crash.py tests/e2e/test_terminal.py::test_{resize,much_output_arrives_in_order} \
		tests/e2e/test_run.py::test_{exit_status_is_the_programs_own,streams_stay_apart,random_bytes_come_back_whole,32_at_once,signals_are_passed_on} \
		tests/e2e/test_work.py::test_{compile_and_run_floating_point,processor_as_programs_see_it,many_processes_and_files,power_off_keeps_what_was_written}
}

suite_lab-e2e()
{
	lab_e2e lab-e2e-all-1 1 tests/e2e/test_{errors,import,service,systemd}.py
	lab_e2e lab-e2e-all-2 2 tests/e2e/test_{crash,run,terminal,work}.py
}

# lab_e2e NAME CPUS FILE...
lab_e2e()
{
	e2e_environment >"$RESULTS/$1.log" 2>&1 || { echo "no root file system" >"$RESULTS/$1.broken"; return 0; }
	# Each death and recovery takes half a minute there; five of them are suite e2e's.
	WSLX_TEST_KILLS=2 lab_pytest "$@"
}

run_suite()
{
	stage "suite $1"
	"suite_$1"
	stage_done
}

# take QUEUE first|last: takes a suite off a list and prints it; nothing when the list is empty.
take()
{
	(
		flock 9
		if [[ $2 = first ]]; then sed -n '1p' "$1"; sed -i '1d' "$1"; else sed -n '$p' "$1"; sed -i '$d' "$1"; fi
	) 9>"$RESULTS/.queue.lock"
}

# lane QUEUE OTHER: its own suites from the first on, then, from the last on, what the other lane has not come to.
lane()
{
	local suite

	while suite=$(take "$1" first) && [[ -n $suite ]] || suite=$(take "$2" last) && [[ -n $suite ]]; do
		run_suite "$suite"
	done
}

# two_lanes: the lab's suites (build/results/.lab) beside the others (.here): an emulated machine keeps one core busy.
two_lanes()
{
	local lanes=() here=$RESULTS/.here lab=$RESULTS/.lab

	# Process groups of their own, which end with us however we end.
	set -m
	export WSLX_STAGE_PLAIN=1
	(set +m; lane "$lab" "$here") &
	lanes+=($!)
	(set +m; lane "$here" "$lab") &
	lanes+=($!)
	unset WSLX_STAGE_PLAIN
	set +m
	# shellcheck disable=SC2064 # these lanes, now
	trap "kill -TERM -- ${lanes[*]/#/-} 2>/dev/null || true" EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	wait "${lanes[@]}" || true
	trap stage_stop EXIT
	trap - INT TERM
}

# What several suites need and only one may make at a time; what fails here fails again, and is told, in each of them.
prepare_suites()
{
	if [[ " $* " = *e2e* || " $* " = *lab* ]]; then
		e2e_environment >"$RESULTS/prepare.log" 2>&1 || true
	fi
	if [[ " $* " = *devices* ]]; then
		devices_environment >>"$RESULTS/prepare.log" 2>&1 || true
	fi
}

# test_verb [--list] [SUITE...]: the lab's suites beside the others.
test_verb()
{
	local suites suite have here=() lab=()

	if [[ ${1:-} = --list ]]; then
		test_suites
		echo "Only when named:"
		long_suites
		return
	fi
	have=$(test_suites | awk '{print $1}')
	mapfile -t suites < <(if [[ $# -gt 0 ]]; then printf '%s\n' "$@"; else printf '%s\n' "$have"; fi)
	have+=$'\n'$(long_suites | awk '{print $1}')
	for suite in "${suites[@]}"; do
		grep -qx -e "$suite" <<<"$have" || die "no suite $suite; ./dev test --list names them"
		if [[ $suite = lab* ]]; then lab+=("$suite"); else here+=("$suite"); fi
	done
	need build run test lab lint fuzz deb packages
	[[ " ${suites[*]} " != *" suites "* ]] || need suites
	stage "build"
	build_all
	stage_done
	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	stage "what the tests run in"
	prepare_suites "${suites[@]}"
	stage_done
	if [[ ${#lab[@]} -gt 0 && ${#here[@]} -gt 0 ]]; then
		printf '%s\n' "${lab[@]}" >"$RESULTS/.lab"
		printf '%s\n' "${here[@]}" >"$RESULTS/.here"
		two_lanes
	else
		for suite in "${suites[@]}"; do run_suite "$suite"; done
	fi
	printf 'Logs are in build/results.\n'
	find "$RESULTS" -name "*.meson" -o -name "*.junit" -o -name "*.checks" -o -name "*.broken" | sort | xargs "$ROOT/tools/dev/tally"
}
