"""A task that wants more than it may have gets allowed devices or none, whatever its env says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gpu.wrapper import DeviceTable, ensure_devices
from tests.unit.wrapper_model import SIDE_DOORS
from tests.unit.wrapper_rig import (
    DEVICES,
    GPU_A,
    GPU_B,
    MIG,
    NVIDIA,
    REFUSED,
    RUNC,
    Outcome,
    Rig,
    spec,
)

COUNT = "CONCOURSE_GPU_COUNT"
# GPU 1, a MIG device of GPU 2 and whatever else the machine has are not to be reached.
ALLOWED = (GPU_A, "MIG-dddddddd-0000-4000-8000-000000000000")
TABLE = DeviceTable(
    ALLOWED,
    (("0", GPU_A), (GPU_A, GPU_A), ("3:0", ALLOWED[1]), (ALLOWED[1], ALLOWED[1])),
    "compute,utility",
)
SPELLINGS = (
    *("1", "2", "2:1", "3", "3:1", GPU_B, MIG, GPU_B.lower(), GPU_B[:10], MIG.replace("MIG-", "")),
    *("0,1", "1,0", "0,0", "0,0,1", "0,none", "0,void", "0,all", "all,1", "all,all", "ALL", "All"),
    *("00", "01", "+1", "-1", "0x1", "1.0", "1e0", " 1", "1 ", "\t1", "1\n", "0\n1", "0;1", "0 1"),
    *("0,", ",1", ",", "0,,1", "0:0", "1:0", ":", "0-1", "0..1", "*", "?", "[01]", "GPU-*", "\\1"),
    *("nvidia.com/gpu=1", "nvidia.com/gpu=all", "0,nvidia.com/gpu=1", "nvidia.com/gpu=0"),
    *("runtime.nvidia.com/gpu=all", "management.nvidia.com/gpu=all", "mode=cdi", "/dev/nvidia1"),
    *(f"{GPU_A},{GPU_B}", f"{GPU_A}\x00{GPU_B}", f"MIG-{GPU_B}/1/0", "\uff11", "\u0661", "1\u200b"),
    *("$(id)", "`id`", "${0}", '"1', "1'", "0\\u002c1", "%31", "&1", "no-gpu", "x" * 5000),
)
DOORS = (*SIDE_DOORS, "NVIDIA_DRIVER_CAPABILITIES")


@pytest.fixture
def one(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    ensure_devices(rig.layout, TABLE)
    return rig


def within_bounds(done: Outcome, before: str) -> str:
    """Check what became of a task's spec; return how it ended."""
    if done.status != NVIDIA:
        assert done.status in (RUNC, REFUSED)
        assert (done.status == REFUSED) == bool(done.message)
        assert done.config.decode() == before
        return "none" if done.status == RUNC else "refused"
    given = [each.partition("=") for each in done.new_env]
    asks = [value for name, _, value in given if name == DEVICES]
    assert len(asks) == 1
    uuids = asks[0].split(",")
    assert len(set(uuids)) == len(uuids)
    assert set(uuids) <= set(ALLOWED)
    assert not [name for name, _, _ in given if name in SIDE_DOORS]
    parts = [value for name, _, value in given if name == "NVIDIA_DRIVER_CAPABILITIES"]
    assert len(parts) == 1
    assert set(parts[0].split(",")) <= {"compute", "utility"}
    old, new = json.loads(before), json.loads(done.config)
    old["process"].pop("env"), new["process"].pop("env")
    assert old == new
    return "given"


@pytest.mark.parametrize("spelling", SPELLINGS, ids=[ascii(each)[:40] for each in SPELLINGS])
def test_no_spelling_leads_beyond_the_table(one: Rig, spelling: str) -> None:
    text = json.dumps(spec([f"{DEVICES}={spelling}"]))
    ended = within_bounds(one.create(text), text)
    assert ended == ("given" if spelling == "0,0" else "refused")


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
def test_no_combination_of_variables_leads_beyond_the_table(tmp_path: Path, sharing: str) -> None:
    rig = Rig(tmp_path)
    default = "all" if sharing == "shared" else "1"
    ensure_devices(
        rig.layout, DeviceTable(ALLOWED, TABLE.spellings, "compute,utility", sharing, default)
    )
    dice = random.Random(sharing)
    seen = dict.fromkeys(("given", "refused", "none"), 0)
    fine = ("all", "0", GPU_A, "3:0", "none", "")
    for _ in range(60):
        env = ["PATH=/bin", "CUDA_VERSION=12.6.2", "DOCKER_RESOURCE_GPU=1", "NV_GPU=1"]
        for _ in range(dice.randrange(5)):
            name = dice.choice((DEVICES, DEVICES, DEVICES, COUNT, dice.choice(DOORS), "GPU"))
            if name == COUNT:
                value = dice.choice(("0", "1", "1", "2", "2", "3", "-1", "all", "1,2"))
            else:
                value = dice.choice(fine if dice.random() < 0.7 else SPELLINGS)
            env.append(f"{name}={value}")
        text = json.dumps(spec(env), ensure_ascii=dice.random() < 0.5)
        seen[within_bounds(rig.create(text), text)] += 1
    assert min(seen.values()) > 2, seen


@pytest.mark.parametrize("place", range(len(DEVICES)))
def test_a_name_behind_an_escape_is_refused(one: Rig, place: int) -> None:
    """JSON lets any letter be written by its number; Go never does, so nobody honest does."""
    letter = f"\\u{ord(DEVICES[place]):04x}"
    name = DEVICES[:place] + letter + DEVICES[place + 1 :]
    text = json.dumps(spec([f"{DEVICES}=0"])).replace(f'"{DEVICES}=0"', f'"{DEVICES}=0","{name}=1"')
    assert within_bounds(one.create(text), text) == "refused"
