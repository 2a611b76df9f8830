"""The bench runs at all: one round, whose figures nobody reads."""

from __future__ import annotations

from bench import alone, containers
from bench.runtimes import MODES, Runtimes
from rehearsal.machine import Machine


def test_every_runtime_is_measured_beside_its_base(machine: Machine) -> None:
    runtimes = Runtimes.install(machine)
    runtimes.plug(1)
    rows = [*containers.calls(runtimes, 1), *containers.lives(runtimes, 1, 1)]
    rows += containers.lives(runtimes, 2, 1)
    rows += alone.wrapper(runtimes, 1)
    assert all(row.ours_ms > 0 and row.base_ms > 0 for row in rows)
    names = [row.name for row in rows]
    assert (
        len(names)
        == len(set(names))
        == 9 + 2 * (3 + 2 * len(MODES)) + len(MODES) + (6 + len(MODES))
    )
    assert "stand-in" in runtimes.nvidia
