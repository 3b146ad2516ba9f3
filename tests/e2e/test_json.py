# SPDX-License-Identifier: MIT
"""What --json prints is what docs/schema says: no key more, none less."""
import json
import re

import pytest

from conftest import SOURCE, FAKE, wait_for

jsonschema = pytest.importorskip("jsonschema")
SCHEMAS = {f.stem: json.loads(f.read_text()) for f in sorted((SOURCE / "docs/schema").glob("*.json"))}
COMMANDS = {
    "list": ["--list"],
    "online": ["--list", "--online"],
    "status": ["--status"],
    "version": ["--version"],
    "network": ["network"],
    "port-list": ["port", "list"],
    "mount": ["mount", "--status"],
    "diag-list": ["diag", "list"],
    "diag-timeline": ["diag", "timeline"],
    "diag-reclaim": ["diag", "reclaim"],
    "diag-registers": ["diag", "registers"],
}


def checked(w, name, *more):
    """The output, when it is what its schema says."""
    out = json.loads(w.ok(*COMMANDS[name], *more, "--json", timeout=60))
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(out)
    return out


def objects(schema):
    """All schemas of objects below this one."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_schemas_are_schemas_and_know_all_keys():
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert list(objects(schema))
        for o in objects(schema):
            assert o["additionalProperties"] is False or "propertyNames" in o, o


def test_an_unknown_key_is_noticed():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"wslx": "1", "kernel": "2"}, SCHEMAS["version"])


def test_every_output_has_a_schema_and_is_documented():
    assert set(SCHEMAS) == set(COMMANDS)
    text = (SOURCE / "docs/json.md").read_text()
    assert sorted(set(re.findall(r"schema/([a-z-]+)\.json", text))) == sorted(SCHEMAS)
    # Who says "--json" in the sources of the command is one of these.
    said = {f.stem for f in (SOURCE / "cli").glob("*.c") if '"--json"' in f.read_text()}
    assert said == {"verb-list", "verb-status", "verb-version", "verb-port", "verb-diag", "verb-mount-folder"}
    subcommands = re.findall(r'\{"(\w+)", \w+, \.json = true', (SOURCE / "cli/verb-diag.c").read_text())
    assert {f"diag-{s}" for s in subcommands} == {c for c in COMMANDS if c.startswith("diag-")}


def test_with_nothing_there(empty):
    assert checked(empty, "list") == [] and checked(empty, "diag-list") == []
    assert checked(empty, "network") == [] and checked(empty, "port-list") == []
    status = checked(empty, "status")
    assert "vm" not in status and "default" not in status and status["distributions"] == 0
    assert set(checked(empty, "version")) == {"wslx"}
    assert checked(empty, "online")
    assert checked(empty, "mount") == {"mounted": False, "unit": False}


def test_running(wslx):
    wslx.sh("true")
    deb, = checked(wslx, "list")
    assert deb["name"] == "deb" and deb["state"] == "Running" and deb["default"] and "disk" in deb
    status = checked(wslx, "status")
    assert status["vm"]["state"] == "Running" and status["default"] == "deb"
    assert FAKE or status["vm"]["vmm"]["cpus"] == status["processors"]
    assert len(checked(wslx, "diag-list")) == 1
    network, = checked(wslx, "network")
    assert network["distributions"] == ["deb"] and network["ipv4"]["guest"] and network["ipv6"]["host"]
    checked(wslx, "port-list")
    assert checked(wslx, "diag-timeline")["stages"]
    if not FAKE:
        assert checked(wslx, "diag-reclaim")["total_kib"] > 0
        assert checked(wslx, "diag-registers")["vcpus"] and "msrs" in checked(wslx, "diag-registers", "--vcpu", "0")["vcpus"][0]


def test_with_something_wrong(fresh):
    """The keys that are there only then."""
    fresh.ok("--terminate", "deb")
    fresh.configure(wsl2_memry="1GB")
    assert checked(fresh, "status")["warnings"]
    fresh.sh("true")
    fresh.kill(fresh.vmm_pids()[0])
    wait_for("the service to notice", lambda: "last_end" in checked(fresh, "status"))
    fresh.configure(wsl2_kernel="/nowhere/vmlinuz")
    fresh.env.pop("WSLX_KERNEL")
    fresh.ok("--shutdown")
    fresh.kill(fresh.service_pid())
    assert "/nowhere/vmlinuz" in checked(fresh, "status")["problem"]
    next((fresh.tmp / "disk-deb").glob("*.img")).unlink()
    assert [d["name"] for d in checked(fresh, "list")] == ["deb"]


def test_status_names_an_engine_when_the_vmm_does_not_answer(fresh):
    fresh.sh("true")
    fresh.kill(fresh.service_pid())
    control, = fresh.run_dir.glob("wslx/vm-*/control")
    control.rename(control.with_suffix(".away"))
    assert checked(fresh, "status")["engine"] == {"name": "unknown", "reason": "wslx-vmm does not answer"}
    m, = checked(fresh, "diag-list")
    assert "cpus" not in m
