"""Exclusive GPUs under a storm: no GPU is ever two tasks', and none is lost.

`STORM=1000 .tox/functional/bin/pytest tests/functional/test_sharing_real.py` lets as many
containers live as it says; without it, as many as take a minute.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rehearsal.machine import Machine
from tests.functional.conftest import SOURCE
from tests.functional.test_wrapper_real import put_wrapper_up, take_wrapper_down

GPUS = 4
TOTAL = int(os.environ.get("STORM", "0"))


@pytest.fixture(scope="module")
def worker(machine: Machine) -> Iterator[Machine]:
    put_wrapper_up(machine, count=GPUS, sharing="exclusive", timeout=240)
    yield machine
    take_wrapper_down(machine)


@dataclass(frozen=True)
class Came:
    """What came of a storm."""

    wrong: list[str]
    leaked: list[str]
    took_all: bool
    kept: int
    failures: list[str]
    seconds: int
    seen: dict[str, int]


def storm(worker: Machine, mode: str, total: int, at_once: int, seed: int) -> Came:
    argv = [sys.executable, str(SOURCE / "tests/functional/storm.py")]
    env = {"PYTHONPATH": str(SOURCE / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [mode, str(total), str(at_once), str(seed)]
    done = worker.run([*argv, *words], timeout=60 + 6 * total, env=env)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(words, result)
    return Came(**result)


@pytest.mark.parametrize(
    ("mode", "total", "at_once"),
    [
        pytest.param("runc", TOTAL or 64, 64, id="64 at once"),
        pytest.param("containerd", TOTAL // 5 or 24, 8, id="with restarts of containerd"),
    ],
)
def test_no_gpu_is_given_to_two_tasks_and_none_is_lost(
    worker: Machine, mode: str, total: int, at_once: int
) -> None:
    came = storm(worker, mode, total, at_once, seed=int(os.environ.get("STORM_SEED", "1")))

    assert came.wrong == []
    assert came.leaked == []
    assert came.took_all
    assert came.failures == []
    assert came.kept > 0
    assert sum(came.seen.values()) >= total
    assert mode == "runc" or came.seen["restarts of containerd"] > 0
    assert sum(times for what, times in came.seen.items() if what.startswith("given")) > total // 4
