# SPDX-License-Identifier: MIT
"""docs/wsl-compat.md: nothing of WSL is missing in it, and the tests it names are there."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/wsl-compat.md").read_text()
LINES = TEXT.splitlines()
ROWS = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line, following in zip(LINES, LINES[1:] + [""])
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---")]

OPTIONS = """--exec --shell-type --cd --distribution --distribution-id --user --system --parent-console --help
    --install --enable-wsl1 --fixed-vhd --from-file --legacy --location --name --no-distribution --no-launch --version --vhd-size
    --web-download --pre-release --prompt-before-exit --manage --move --set-sparse --allow-unsafe --set-default-user --resize
    --mount --unmount --export --format --vhd --import --import-in-place --list --all --running --online
    --set-default --set-default-version --set-version --terminate --unregister --shutdown --force --status --update --uninstall
    --debug-shell wslconfig bash.exe wslg wslpath wslinfo --networking-mode --wsl-version --vm-id --msal-proxy-path mount.drvfs
    WSLENV WSL_INTEROP WSL_UTF8 WSL_DISABLE_WARNINGS""".split()

KEYS = """kernel kernelCommandLine kernelModules memory processors swap swapFile localhostForwarding networkingMode vmSwitch macAddress
    dhcp dhcpTimeout ipv6 dnsProxy dnsTunneling firewall autoProxy nestedVirtualization virtio virtio9p virtiofs hostFileSystemAccess
    gpuSupport guiApplications systemDistro vmIdleTimeout kernelBootTimeout distributionStartTimeout mountDeviceTimeout debugConsole
    debugConsoleLogFile earlyBootLogging kernelDebugPort hardwarePerformanceCounters defaultVhdSize crashDumpFolder maxCrashDumpCount
    loadKernelModules loadDefaultKernelModules isolateDistroCgroup safeMode telemetry distributionInstallPath instanceIdleTimeout
    autoMemoryReclaim sparseVhd bestEffortDnsParsing dnsTunnelingIpAddress initialAutoProxyTimeout ignoredPorts hostAddressLoopback
    setVersionDebug swiotlb virtioFsAggregateShares
    automount mountFsTab ldconfig cgroups umask appendWindowsPath generateHosts generateResolvConf hostname useWindowsTimezone
    fileServer gpu systemd initTimeout protectBinfmt oobe defaultUid defaultName shortcut windowsterminal""".split()

ERRORS = """default distro not found, distro not found, wsl1 unsupported, vm mode unsupported, too many disks, console,
    custom kernel not found, user not found, invalid usage, export failed, import failed, distro not stopped, tty limit,
    custom system distro, lower/higher integrity, fs upgrade needed, user disk already attached, invalid state, mount name exists,
    elevation needed, disk already attached, disk already mounted, mount failed, unmount failed, wsl2 needed, invalid mount name,
    gui disabled, store only, mount unsupported, optional component, vmswitch not found/not set, not a linux distro, os unsupported,
    install process failed, component failed, plugin needs update, disk mount disabled, wsl1 disabled, VM platform required,
    local system unsupported, disk corrupted, distro name needed, invalid json, VM crashed"""


def exists(test):
    """FILE.TEST, where FILE is tests/e2e/FILE.py or FILE.c; or a whole FILE."""
    file, _, name = test.rpartition(".")
    if not file:
        return (ROOT / f"tests/e2e/{name}.py").exists() or (ROOT / f"{name}.c").exists()
    for path, text in ((ROOT / f"tests/e2e/{file}.py", f"def test_{name}("), (ROOT / f"{file}.c", f"TEST({name})")):
        if path.exists() and text in path.read_text():
            return True
    return False


def test_all_of_wsl_is_in_the_table():
    first = " ".join(row[0] for row in ROWS)
    assert [w for w in OPTIONS + KEYS if not re.search(rf"(?<![\w-]){re.escape(w)}(?![\w-])", first)] == []
    kinds = {e.strip() for row in ROWS for e in row[0].split(",")}
    assert [e for e in (" ".join(e.split()) for e in ERRORS.split(",")) if e not in kinds and e + " (guest status 67)" not in kinds and
            e + " (guest status 87)" not in kinds] == []


def test_rows_have_a_verdict():
    for row in ROWS:
        assert len(row) == 4 and re.match(r"(same|better|differs|not yet)\b", row[2]), row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0] or row[1])
def test_what_is_claimed_is_shown(row):
    tests = [t for t in re.split(r"[,\s]+", row[3]) if t]
    assert tests or not re.match(r"same|better", row[2]), "no test shows it"
    assert [t for t in tests if not exists(t)] == []
