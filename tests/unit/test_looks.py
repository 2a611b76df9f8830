"""One glitch changes nothing; two looks that agree do."""

from __future__ import annotations

import pytest

from gpu import looks
from gpu.looks import Offer
from host import Layout

ONE = Offer(wish="all", allowed=("GPU-1",), spellings=(("0", "GPU-1"),), tags=("gpu",))
NONE = Offer(wish="all", finding="nvidia-smi failed")


def test_the_first_look_settles(layout: Layout) -> None:
    assert looks.settle(layout, ONE) == ONE
    assert looks.settled(layout) == ONE


def test_a_glitch_leaves_the_offer(layout: Layout) -> None:
    looks.settle(layout, ONE)
    assert looks.settle(layout, NONE) == ONE
    assert looks.settle(layout, ONE) == ONE
    assert looks.settle(layout, NONE) == ONE, "the two bad looks were not in a row"


def test_two_looks_that_agree_settle(layout: Layout) -> None:
    looks.settle(layout, ONE)
    looks.settle(layout, NONE)
    assert looks.settle(layout, NONE) == NONE


def test_the_wording_of_a_trouble_is_no_difference(layout: Layout) -> None:
    looks.settle(layout, ONE)
    looks.settle(layout, NONE)
    worse = Offer(wish="all", finding="nvidia-smi hung")
    assert looks.settle(layout, worse) == worse


def test_another_wish_settles_at_once(layout: Layout) -> None:
    looks.settle(layout, ONE)
    other = Offer(wish="0,1", allowed=("GPU-1",))
    assert looks.settle(layout, other) == other


def test_forgetting_leaves_no_file(layout: Layout) -> None:
    looks.settle(layout, ONE)
    looks.settle(layout, NONE)
    assert looks.forget(layout)
    assert not looks.forget(layout)
    assert looks.settled(layout) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"wish": 1}', '{"spellings": [[1]]}'])
def test_a_damaged_memory_counts_as_none(damage: str, layout: Layout) -> None:
    looks.settle(layout, ONE)
    (layout.state / "gpu/offer.json").write_text(damage)
    assert looks.settled(layout) is None
    assert looks.settle(layout, ONE) == ONE
