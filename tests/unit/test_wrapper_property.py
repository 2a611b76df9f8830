"""The wrapper against Python's json, over specs that nobody thought of, and against the clock."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.wrapper_clock import cpu, hold_to_linear
from tests.unit.wrapper_model import expect
from tests.unit.wrapper_rig import AWKS, NVIDIA, REFUSED, RUNC, SHELLS, TASK, Rig, spec
from tests.unit.wrapper_specs import Drawn, draw, spoil

OUTCOMES = {NVIDIA: "nvidia", RUNC: "runc", REFUSED: "refused"}


def check_specs(rig: Rig, seed: int, count: int) -> dict[str, int]:
    """Send specs through the wrapper and compare with the model; return how often what came."""
    for program, status in ((rig.tree / "bin/runc.real", RUNC), (None, NVIDIA)):
        place = program or rig.layout.nvidia_runtime_real
        place.write_text(f"#!/bin/sh\nexit {status}\n")
    seen: dict[str, int] = {}
    for number in range(count):
        dice = random.Random(f"{seed}.{number}")
        drawn = draw(dice)
        if dice.random() < 0.15:
            text = spoil(dice, drawn.text)
            drawn = Drawn(text, -1, -1)
        where = _check(rig, drawn, f"seed {seed}.{number}")
        seen[where] = seen.get(where, 0) + 1
    return seen


def _check(rig: Rig, drawn: Drawn, name: str) -> str:
    old = drawn.text
    expected = expect(old)
    done = rig.create(old)
    new = done.config.decode()
    where = OUTCOMES.get(done.status, str(done.status))
    hint = f"{name}: status {done.status}, {done.message!r}, {old!r} became {new!r}"
    if expected.where == "no gpu" and where == "nvidia":
        # A text that isn't JSON can slip through, but only to NVIDIA's runtime, which fails.
        assert not _is_json(old), hint
        assert not _is_json(new), hint
        return "broken"
    if where != "nvidia":
        assert new == old, hint
        assert (where == "refused") == bool(done.records), hint
    if expected.where == "no gpu":
        assert where in ("runc", "refused"), hint
        return "no gpu"
    assert where == expected.where, hint
    if where == "nvidia":
        _check_text(drawn, new, expected.env, hint)
    return where


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _check_text(drawn: Drawn, new: str, env: tuple[str, ...], hint: str) -> None:
    """The env is the expected one, and every byte outside of it the old one."""
    parsed: Any = json.loads(new)
    assert parsed["process"]["env"] == list(env), hint
    if drawn.start < 0:
        return
    old = drawn.text
    if drawn.start == drawn.end:
        before = json.loads(old)
        del parsed["process"]["env"]
        assert parsed == before, hint
        at = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
        assert new.endswith(old[at:]), hint
        return
    assert new[: drawn.start] == old[: drawn.start], hint
    assert new.endswith(old[drawn.end :]), hint


@pytest.mark.parametrize("awk", AWKS)
def test_the_wrapper_and_json_agree(tmp_path: Path, awk: str) -> None:
    seen = check_specs(Rig(tmp_path, SHELLS[0], awk), seed=len(awk) + ord(awk[0]), count=400)
    assert min(seen.get(each, 0) for each in ("nvidia", "runc", "refused", "no gpu")) > 10, seen


HOSTILE = {
    "escaped quotes": '"' * 500_000,
    "backslashes": "\\" * 500_000,
    "long runs of them": ("\\" * 999 + "x") * 500,
    "paths of tasks": "/tmp/build/" * 90_000,
    "almost paths": "/tmp/build/0123abc" * 55_000,
    "quotes and paths": '"/tmp/build/0123abcd' * 50_000,
    "brackets": "[{" * 500_000,
    "one long word": "x" * 1_000_000,
}


def _create(rig: Rig, text: dict[str, Any] | str) -> Callable[[], None]:
    def call() -> None:
        assert rig.create(text).status in (NVIDIA, RUNC, REFUSED)

    return call


@pytest.mark.parametrize("awk", AWKS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("where", ["value", "request", "name", "destination", "key"])
def test_time_is_linear_in_the_size(tmp_path: Path, awk: str, text: str, where: str) -> None:
    """A user's megabyte: bounded, and a quarter of it costs about a quarter."""
    rig = Rig(tmp_path, SHELLS[0], awk)

    def build(size: int) -> dict[str, Any]:
        part = text[:size]
        built = spec(
            {
                "value": [f"A={part}"],
                "request": [f"NVIDIA_VISIBLE_DEVICES={part}"],
                "name": [part],
            }.get(where, []),
            ["/proc", TASK, f"/x/{part}" if where == "destination" else "/y"],
        )
        if where == "key":
            built["process"][part] = 1
        return built

    hold_to_linear(_create(rig, build(len(text) // 4)), _create(rig, build(len(text))))


MANY = {
    "entries": ",".join(['"A=1"'] * 150_000),
    "duplicates": ",".join(['"NVIDIA_VISIBLE_DEVICES=0"'] * 40_000),
    "duplicates among others": ",".join(['"NVIDIA_GDS=1","A=1"'] * 50_000),
    "escaped names": ",".join(['"\\"\\"\\"\\"\\"\\"\\"\\"=1"'] * 40_000),
    "long escaped entries": ",".join(['"NVIDIA_GDS=' + '\\"' * 2000 + '"'] * 250),
    "empty strings": ",".join(['""'] * 300_000),
}


@pytest.mark.parametrize("awk", AWKS)
@pytest.mark.parametrize("entries", MANY.values(), ids=MANY.keys())
def test_time_is_linear_in_the_number_of_entries(tmp_path: Path, awk: str, entries: str) -> None:
    rig = Rig(tmp_path, SHELLS[0], awk)
    frame = '{"process":{"env":[%s]},"mounts":[{"destination":"' + TASK + '"}]}'
    quarter = entries[: entries.index(",", len(entries) // 4)]

    hold_to_linear(_create(rig, frame % quarter), _create(rig, frame % entries))


@pytest.mark.parametrize("awk", AWKS)
def test_numbers_and_nesting_without_a_string_are_linear_too(tmp_path: Path, awk: str) -> None:
    rig = Rig(tmp_path, SHELLS[0], awk)
    frame = '{"x":%s,"process":{},"mounts":[{"destination":"' + TASK + '"}]}'
    for inner in ("[" * 300_000 + "]" * 300_000, "[" + "1," * 300_000 + "1]", " " * 600_000 + "1"):
        cpu(_create(rig, frame % inner))  # which bounds it
