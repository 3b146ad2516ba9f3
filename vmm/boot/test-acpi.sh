#!/bin/sh
# SPDX-License-Identifier: MIT
# Disassembles the machine's ACPI tables with iasl, compiles the result again, and compares: test-acpi.sh ACPI-DUMP.
set -eu

command -v iasl >/dev/null || { echo 'Bail out! no iasl (package acpica-tools)'; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$1" "$dir"
cd "$dir"
n=0
bad=0

ok() # NAME STATUS
{
	n=$((n + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
		sed 's/^/# /' log
		bad=1
	fi
}

for t in XSDT FACP APIC MCFG DSDT; do
	r=0
	iasl -d "$t.aml" >log 2>&1 || r=1
	# iasl reports a wrong checksum, length or field as a warning.
	grep -Eiq 'warning|invalid|error' log && r=1
	ok "$t disassembles without a complaint" $r
done
r=0
iasl -p again DSDT.dsl >log 2>&1 || r=1
grep -Eq '0 Errors, 0 Warnings' log || r=1
ok 'DSDT compiles again without errors and warnings' $r
r=0
for want in '_S5, Package' 'PNP0A03' 'PNP0501' 'ACPI0013' 'PNP0C0C'; do
	grep -qF "$want" DSDT.dsl || { echo "missing: $want" >log; r=1; }
done
ok 'DSDT holds the devices' $r
echo "1..$n"
exit $bad
