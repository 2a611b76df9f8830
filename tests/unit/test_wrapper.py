"""What the wrapper does with each container, rule by rule, under every shell and awk here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from gpu.wrapper import DeviceTable, ensure_devices
from tests.unit.wrapper_rig import (
    BOTH,
    CAPABILITIES,
    DEVICES,
    GPU_A,
    GPU_B,
    MIG,
    NVIDIA,
    REFUSED,
    RUNC,
    TABLE,
    TASK,
    Rig,
    spec,
)


def test_a_task_gets_the_allowed_gpus(rig: Rig) -> None:
    done = rig.create(spec(["PATH=/bin", "A=1"]))

    assert done.status == NVIDIA
    assert done.new_env == ["PATH=/bin", "A=1", f"{DEVICES}={BOTH}", f"{CAPABILITIES}=all"]
    assert done.output == b""
    assert done.records == ()
    assert done.argv[0] == str(rig.layout.nvidia_runtime_real)
    assert done.argv[1:] == (
        *("--root", "/r", "--log", str(rig.log), "--log-format", "json"),
        *("create", "--bundle", str(rig.bundle), "--pid-file", "p", "an-id"),
    )
    assert done.env["NVIDIA_CTK_CONFIG_FILE_PATH"] == str(rig.layout.chain_config)


@pytest.mark.parametrize(
    "mounts",
    [
        pytest.param(("/proc", "/etc/hosts"), id="check"),
        pytest.param(("/proc", "/tmp/build/get"), id="get"),
        pytest.param(("/proc", "/tmp/build/put", "/tmp/build/put/input"), id="put"),
        pytest.param(("/tmp/build/put", TASK), id="put with an input that looks like a task"),
        pytest.param((TASK, "/tmp/build/put/x"), id="below put"),
        pytest.param(("/tmp/build/0123abcde",), id="nine digits"),
        pytest.param(("/tmp/build/0123abc",), id="seven digits"),
        pytest.param(("/tmp/build/0123ABCD",), id="capital letters"),
        pytest.param(("/x/tmp/build/0123abcd",), id="deeper"),
        pytest.param((), id="no mounts"),
    ],
)
def test_what_is_no_task_goes_to_runc_untouched(rig: Rig, mounts: Sequence[str]) -> None:
    text = json.dumps(spec([f"{DEVICES}=all"], mounts))
    done = rig.create(text)

    assert done.status == RUNC
    assert done.config.decode() == text
    assert "NVIDIA_CTK_CONFIG_FILE_PATH" not in done.env
    assert done.output == b""


@pytest.mark.parametrize("mount", [TASK, f"{TASK}/", f"{TASK}/src", "/tmp/build/getaway"])
def test_a_task_is_known_by_its_mount(one: Rig, mount: str) -> None:
    expected = NVIDIA if "getaway" not in mount else RUNC
    assert one.create(spec([], ["/proc", mount])).status == expected


@pytest.mark.parametrize(
    ("env", "devices"),
    [
        pytest.param([], BOTH, id="absent"),
        pytest.param([f"{DEVICES}=all"], BOTH, id="all"),
        pytest.param([f"{DEVICES}=1"], GPU_B, id="index"),
        pytest.param([f"{DEVICES}={GPU_B}"], GPU_B, id="uuid"),
        pytest.param([f"{DEVICES}=2:1"], MIG, id="MIG id"),
        pytest.param([f"{DEVICES}=1,0"], f"{GPU_B},{GPU_A}", id="list"),
        pytest.param([f"{DEVICES}=0,0,{GPU_A}"], GPU_A, id="one device, three times"),
        pytest.param([f"{DEVICES}=0", f"{DEVICES}=1"], GPU_B, id="the last one wins"),
        pytest.param([f"{DEVICES}=7", "A=1", f"{DEVICES}=0"], GPU_A, id="the first is no matter"),
        pytest.param([f"{DEVICES}=none", f"{DEVICES}=all"], BOTH, id="none, then all"),
        pytest.param(["nvidia_visible_devices=7"], BOTH, id="another variable"),
        pytest.param([f"X{DEVICES}=7", f"{DEVICES}X=7"], BOTH, id="longer names"),
        pytest.param([f"A={DEVICES}=7"], BOTH, id="in a value"),
        pytest.param([f'A="\n{DEVICES}=7'], BOTH, id="behind a quote in a value"),
    ],
)
def test_a_request_becomes_full_uuids(rig: Rig, env: list[str], devices: str) -> None:
    done = rig.create(spec([*env, "Z=1"]))

    assert done.status == NVIDIA
    kept = [each for each in env if not each.startswith(f"{DEVICES}=")]
    assert done.new_env == [*kept, "Z=1", f"{DEVICES}={devices}", f"{CAPABILITIES}=all"]


@pytest.mark.parametrize("request_", ["", "none", "void"])
def test_a_task_that_wants_none_gets_none(rig: Rig, request_: str) -> None:
    text = json.dumps(spec([f"{DEVICES}=all", f"{DEVICES}={request_}"]))
    done = rig.create(text)

    assert done.status == RUNC
    assert done.config.decode() == text


@pytest.mark.parametrize(
    ("request_", "shown"),
    [
        ("7", "7"),
        ("00", "00"),
        (" 1 ", " 1 "),
        ("0,7", "7"),
        ("0,", ""),
        (",", ""),
        ("0,none", "none"),
        ("0,all", "all"),
        ("ALL", "ALL"),
        (GPU_A.lower(), GPU_A.lower()),
        (GPU_A[:12], GPU_A[:12]),
        ("nvidia.com/gpu=1", "nvidia.com/gpu=1"),
        ("2:*", "2:?"),
        ('7"}\n{"level":"info', "7?????level?:?info"),
        ("$(reboot)`id`\\u0000", "??reboot??id??u0000"),
        ("é", "??"),
        ("x" * 500, "x" * 64 + "..."),
        ("x" * 5000, None),
        (",".join(["0"] * 3000), None),
    ],
)
def test_what_is_not_in_the_table_is_refused_with_a_sentence(
    rig: Rig, request_: str, shown: str | None
) -> None:
    text = json.dumps(spec([f"{DEVICES}={request_}"]), ensure_ascii=False)
    done = rig.create(text)

    assert done.status == REFUSED
    assert done.config.decode() == text
    assert done.argv == ()
    assert done.output == b""
    (record,) = done.records
    assert record["level"] == "error"
    age = datetime.now(timezone.utc) - datetime.strptime(
        record["time"], "%Y-%m-%dT%H:%M:%SZ"
    ).replace(tzinfo=timezone.utc)
    assert abs(age.total_seconds()) < 60
    if shown is None:
        assert record["msg"] == "NVIDIA_VISIBLE_DEVICES is too long"
        return
    assert record["msg"] == (
        f'GPU "{shown}" is not available on this worker '
        f"(available: 0, 1, 2:1, {GPU_A}, {GPU_B}, {MIG})"
    )


def test_an_empty_allowed_set_gives_no_gpu(rig: Rig) -> None:
    ensure_devices(rig.layout, DeviceTable((), (), "all"))

    assert rig.create(spec([])).status == RUNC
    assert rig.create(spec([f"{DEVICES}=all"])).status == RUNC
    refused = rig.create(spec([f"{DEVICES}=0"]))
    assert refused.message == 'GPU "0" is not available on this worker (it has none to give)'


def test_a_long_table_is_shown_in_part(one: Rig) -> None:
    many = tuple((str(each), f"GPU-{each:036d}") for each in range(64))
    ensure_devices(one.layout, DeviceTable((), many + tuple((b, b) for _, b in many), "all"))

    message = one.create(spec([f"{DEVICES}=x"])).message
    assert len(message) < 1000
    assert message.endswith("...)")
    assert one.create(spec([f"{DEVICES}={many[63][1]},63"])).new_env[-2] == (
        f"{DEVICES}={many[63][1]}"
    )


@pytest.mark.parametrize(
    ("option", "asked", "given"),
    [
        ("all", None, "all"),
        ("all", "all", "all"),
        ("all", "utility,all", "all"),
        ("all", "utility", "utility"),
        ("all", "video,compute,compute", "compute,video"),
        ("all", "nonsense", "all"),
        ("all", "", "all"),
        ("compute,utility", None, "compute,utility"),
        ("compute,utility", "all", "compute,utility"),
        ("compute,utility", "utility,display", "utility"),
        ("compute,utility", "display", "compute,utility"),
        ("compute,utility", "compute,nonsense", "compute"),
        ("compute,utility", '"\n', "compute,utility"),
    ],
)
def test_capabilities_are_narrowed_and_never_refused(
    rig: Rig, option: str, asked: str | None, given: str
) -> None:
    ensure_devices(rig.layout, DeviceTable(TABLE.allowed, TABLE.spellings, option))
    env = [] if asked is None else [f"{CAPABILITIES}=video", "A=1", f"{CAPABILITIES}={asked}"]
    done = rig.create(spec(env))

    assert done.status == NVIDIA
    assert done.new_env == [*env[1:2], f"{DEVICES}={BOTH}", f"{CAPABILITIES}={given}"]


@pytest.mark.parametrize(
    "name",
    [
        *("IMEX_CHANNELS", "MOFED", "GDS", "GDRCOPY", "NVSWITCH"),
        *("MIG_CONFIG_DEVICES", "MIG_MONITOR_DEVICES"),
    ],
)
def test_side_doors_are_taken_out(rig: Rig, name: str) -> None:
    done = rig.create(spec([f"NVIDIA_{name}=all", "A=1", f"NVIDIA_{name}=enabled"]))
    assert done.new_env == ["A=1", f"{DEVICES}={BOTH}", f"{CAPABILITIES}=all"]


def test_without_any_awk_containers_go_on_without_gpu(one: Rig) -> None:
    (one.root / "awk/awk").unlink()
    for name in ("sh", "env"):
        (one.root / "awk" / name).symlink_to(f"/usr/bin/{name}")
    one.spec.write_text(json.dumps(spec([])))
    alone = {"PATH": f"{one.root}/awk"}
    done = one.call("create", "--bundle", str(one.bundle), "id", env=alone)

    assert done.status == RUNC
    assert done.output == b""
    assert done.config.decode() == json.dumps(spec([]))


def test_without_its_programs_containers_go_on_without_gpu(one: Rig) -> None:
    """Until the next hook writes them again."""
    for program in one.wrapper.parent.glob("*.awk"):
        program.unlink()
    done = one.create(spec([]))

    assert done.status == RUNC
    assert done.output == b""
    assert json.loads(done.config) == spec([])


def _record(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_record_goes_behind_those_that_are_there(one: Rig) -> None:
    one.spec.write_text(json.dumps(spec([f"{DEVICES}=7"])))
    log = one.root / "other log"
    log.write_text('{"level":"warning","msg":"x","time":"2026-01-01T00:00:00Z"}\n')
    argv = ("--log", "/nowhere/x", f"--log={log}", "create", "-b", str(one.bundle), "id")
    assert one.call(*argv, log=False).status == REFUSED

    assert [each["level"] for each in _record(log)] == ["warning", "error"]


@pytest.mark.parametrize("log", [[], ["--log", ""], ["--log", "/nowhere/at/all"]])
def test_without_a_log_a_refusal_is_silent(rig: Rig, log: list[str]) -> None:
    rig.spec.write_text(json.dumps(spec([f"{DEVICES}=7"])))
    done = rig.call(*log, "create", "-b", str(rig.bundle), "id", log=False)
    assert (done.status, done.output) == (REFUSED, b"")
