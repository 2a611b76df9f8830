"""Ten thousand made-up specs through the wrapper, shared out over the shells and awks here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_wrapper_property import check_specs
from tests.unit.wrapper_rig import PAIR_IDS, PAIRS, Rig

TOTAL = 10_000


@pytest.mark.parametrize(("number", "pair"), list(enumerate(PAIRS)), ids=PAIR_IDS)
def test_the_wrapper_and_json_agree(
    tmp_path: Path, number: int, pair: tuple[tuple[str, ...], str]
) -> None:
    shell, awk = pair
    count = -(-TOTAL // len(PAIRS))
    seen = check_specs(Rig(tmp_path, shell, awk), seed=1000 + number, count=count)

    assert sum(seen.values()) == count
    assert min(seen[each] for each in ("nvidia", "runc", "refused", "no gpu")) > count // 50
