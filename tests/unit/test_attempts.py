"""Failures are remembered, and the pause before the next try grows."""

from __future__ import annotations

import pytest

import attempts
from host import Layout, Trouble

STEP = "release"


def test_a_step_that_never_failed_is_due(layout: Layout) -> None:
    assert attempts.due(layout, STEP)
    assert attempts.last(layout, STEP) is None


def test_the_pause_doubles_up_to_its_limit(layout: Layout) -> None:
    pauses = []
    for _ in range(12):
        attempts.failed(layout, STEP, Trouble("apt is locked", retry=True), now=1000)
        attempt = attempts.last(layout, STEP)
        assert attempt is not None
        pauses.append(attempt.next_try - 1000)
    assert pauses[:3] == [60, 120, 240]
    assert pauses[-1] == attempts.LONGEST_PAUSE


def test_a_failed_step_is_due_when_its_pause_is_over(layout: Layout) -> None:
    attempts.failed(layout, STEP, Trouble("no network", retry=True), now=1000)
    assert not attempts.due(layout, STEP, now=1059)
    assert attempts.due(layout, STEP, now=1060)
    assert attempts.due(layout, "another step", now=1000)


def test_a_clock_that_was_set_back_does_not_stop_a_step_for_ever(layout: Layout) -> None:
    attempts.failed(layout, STEP, Trouble("no network"), now=2_000_000_000)
    assert attempts.due(layout, STEP, now=1000)


def test_success_forgets_and_leaves_no_file(layout: Layout) -> None:
    attempts.failed(layout, STEP, Trouble("no network"))
    attempts.succeeded(layout, STEP)
    assert attempts.last(layout, STEP) is None
    assert not list(layout.state.iterdir())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"release": {"odd": 1}}', '{"release": 3}'])
def test_a_damaged_memory_costs_one_early_try(damage: str, layout: Layout) -> None:
    attempts.failed(layout, STEP, Trouble("no network"))
    (layout.state / "attempts.json").write_text(damage)
    assert attempts.due(layout, STEP)
    attempts.failed(layout, STEP, Trouble("no network"))
    assert attempts.last(layout, STEP) is not None


def test_what_the_disk_does_not_take_is_known_to_this_hook_all_the_same(layout: Layout) -> None:
    layout.state.parent.mkdir(parents=True)
    layout.state.write_text("a file where the folder should be, as good as a full disk")
    attempts.failed(layout, STEP, Trouble("no space", retry=True), now=1000)
    known = attempts.last(layout, STEP)
    assert known is not None
    assert (known.what, known.retry) == ("no space", True)
    layout.state.unlink()
    attempts.failed(layout, "another", Trouble("no network"), now=1000)
    assert set(attempts.steps(layout)) == {STEP, "another"}
    attempts.succeeded(layout, STEP)
    assert attempts.last(layout, STEP) is None
