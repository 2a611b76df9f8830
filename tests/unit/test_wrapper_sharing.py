"""Shared, balanced, exclusive: what a task gets beside others that hold GPUs already."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.unit.wrapper_leases import COUNT, LEASE, given, hold, share
from tests.unit.wrapper_rig import (
    AWKS,
    BOTH,
    DEVICES,
    GPU_A,
    GPU_B,
    MIG,
    REFUSED,
    RUNC,
    SHELLS,
    Rig,
    spec,
)


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
@pytest.mark.parametrize(
    ("env", "devices"),
    [
        ([f"{COUNT}=1"], GPU_A),
        ([f"{COUNT}=2"], BOTH),
        ([f"{COUNT}=1", f"{COUNT}=2"], BOTH),
        ([f"{COUNT}=9", f"{COUNT}=1"], GPU_A),
        ([f"{COUNT}=2", f"{DEVICES}=all"], BOTH),
        ([f"{DEVICES}=1"], GPU_B),
        ([f"{DEVICES}=1", f"{COUNT}=1"], GPU_B),
        ([f"{DEVICES}=1,0,1"], f"{GPU_B},{GPU_A}"),
        ([f"{DEVICES}=2:1"], MIG),
        ([f"X{COUNT}=7", f"{COUNT}X=7", f"{DEVICES}=0"], GPU_A),
    ],
)
def test_a_task_gets_as_many_as_it_asks_for(
    one: Rig, sharing: str, env: list[str], devices: str
) -> None:
    share(one, sharing)
    done = one.create(spec(["A=1", *env]))

    assert given(done) == devices
    kept = [each for each in env if not each.startswith(DEVICES)]
    assert done.new_env[:-2] == ["A=1", *kept]
    assert done.new_env[-1] == "NVIDIA_DRIVER_CAPABILITIES=all"
    assert done.output == b""


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
@pytest.mark.parametrize(
    "env",
    [
        [f"{COUNT}=0"],
        [f"{COUNT}=0", f"{DEVICES}=all"],
        [f"{COUNT}=0", f"{DEVICES}=1"],
        [f"{COUNT}=2", f"{COUNT}=0"],
        [f"{DEVICES}=none"],
        [f"{DEVICES}=void", f"{COUNT}=0"],
    ],
)
def test_none_is_none_in_every_mode(rig: Rig, sharing: str, env: list[str]) -> None:
    share(rig, sharing)
    assert rig.create(spec(env)).status == RUNC
    assert not (rig.bundle / LEASE).exists()


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
@pytest.mark.parametrize(
    ("env", "message"),
    [
        ([f"{COUNT}=3"], f"{COUNT} of this task is 3, and this worker has 2 GPUs"),
        ([f"{COUNT}=999"], f"{COUNT} of this task is 999, and this worker has 2 GPUs"),
        ([f"{COUNT}=2", f"{DEVICES}=1"], f"{COUNT} of this task is 2, and {DEVICES} names 1"),
        ([f"{COUNT}=1", f"{DEVICES}=0,1"], f"{COUNT} of this task is 1, and {DEVICES} names 2"),
        ([f"{COUNT}=1", f"{DEVICES}=none"], f"{COUNT} of this task is 1, and {DEVICES} asks for"),
        *(
            ([f"{COUNT}={bad}"], f'{COUNT} of this task is no number of GPUs: "{shown}"')
            for bad, shown in (
                *(("", ""), ("-1", "-1"), ("1.0", "1.0"), (" 1", " 1"), ("01", "01")),
                *(("all", "all"), ("1e0", "1e0"), ("0x1", "0x1"), ("1\n", "1?")),
                *(("1000", "1000"), ("\uff11", "?"), ('1"', "1?"), ("$(id)", "??id?")),
                ("1" * 400, "1" * 64 + "..."),
            )
        ),
    ],
)
def test_a_count_that_cannot_be_is_refused_at_once(
    one: Rig, sharing: str, env: list[str], message: str
) -> None:
    share(one, sharing, timeout=60)
    begin = time.monotonic()
    done = one.create(spec(env))

    assert done.status == REFUSED
    assert done.message.startswith(message)
    assert time.monotonic() - begin < 5
    assert not (one.bundle / LEASE).exists()


def test_a_count_behind_escapes_is_refused_as_doubtful(one: Rig) -> None:
    share(one, "exclusive")
    text = '{"process":{"env":["CONCOURSE_GPU_\\u0043OUNT=2"]},"mounts":[{"destination":'
    done = one.create(text + '"/tmp/build/0123abcd"}]}')
    assert done.message == "config.json of this task cannot be read without doubt"


@pytest.mark.parametrize(
    ("sharing", "default", "env", "devices"),
    [
        ("shared", "all", [], BOTH),
        ("shared", "all", [f"{DEVICES}=all"], BOTH),
        ("balanced", "1", [], GPU_A),
        ("balanced", "1", [f"{DEVICES}=all"], GPU_A),
        ("exclusive", "1", [], GPU_A),
        ("exclusive", "1", [f"{DEVICES}=all"], GPU_A),
        ("exclusive", "0", [], None),
        ("exclusive", "0", [f"{DEVICES}=all"], None),
        ("exclusive", "0", [f"{DEVICES}=1"], GPU_B),
        ("exclusive", "0", [f"{COUNT}=1"], GPU_A),
    ],
)
def test_a_task_that_asks_for_nothing_gets_the_mode_s_share(
    rig: Rig, sharing: str, default: str, env: list[str], devices: str | None
) -> None:
    share(rig, sharing, default)
    done = rig.create(spec(env))
    if devices is None:
        assert done.status == RUNC
    else:
        assert given(done) == devices


def test_balanced_takes_those_with_the_fewest_leases(rig: Rig) -> None:
    share(rig, "balanced")
    hold(rig, "a", GPU_A)
    assert given(rig.create(spec([]))) == GPU_B
    hold(rig, "b", GPU_B)
    assert given(rig.create(spec([]))) == GPU_A
    hold(rig, "c", BOTH)
    hold(rig, "d", GPU_A)
    assert given(rig.create(spec([f"{COUNT}=1"]))) == GPU_B
    assert given(rig.create(spec([f"{COUNT}=2"]))) == f"{GPU_B},{GPU_A}"
    assert given(rig.create(spec([f"{DEVICES}=0"]))) == GPU_A


def test_exclusive_gives_what_nobody_holds(rig: Rig) -> None:
    share(rig, "exclusive")
    hold(rig, "a", f"{GPU_A},{MIG}")
    assert given(rig.create(spec([]))) == GPU_B
    assert given(rig.create(spec([f"{DEVICES}=1"]))) == GPU_B


def test_an_old_table_means_shared(one: Rig) -> None:
    text = one.layout.gpu_devices.read_text()
    kept = [
        line
        for line in text.splitlines()
        if line.split("\t")[0] not in ("sharing", "default", "timeout")
    ]
    one.layout.gpu_devices.write_text("".join(f"{line}\n" for line in kept))
    assert given(one.create(spec([]))) == BOTH


@pytest.mark.parametrize("awk", AWKS)
def test_the_new_spec_differs_in_the_env_alone(tmp_path: Path, awk: str) -> None:
    """In a leased mode the UUIDs are put in afterwards, at the right byte."""
    rig = Rig(tmp_path, SHELLS[0], awk)
    share(rig, "exclusive")
    env = ["NVIDIA_GDS=1", "ü=é\U0001f600", f"A={DEVICES}=", "NVIDIA_GDS=2", 'B="\\']
    done = rig.create(spec(env))
    assert done.new_env == [
        "ü=é\U0001f600",
        f"A={DEVICES}=",
        'B="\\',
        f"{DEVICES}={GPU_A}",
        "NVIDIA_DRIVER_CAPABILITIES=all",
    ]
