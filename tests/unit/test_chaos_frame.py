"""The chaos suite's own counting, choosing and recording."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.frame import BEGIN, END, SOURCE, Chaos, Ledger, Result, record, table

PROMISE = "The worker goes on."


def test_cases_of_one_promise_are_one_row_with_what_broke_it() -> None:
    ledger = Ledger(7, quick=False)
    for test in ("tests/chaos/test_a.py::test_one", "tests/chaos/test_b.py::test_two"):
        chaos = Chaos(ledger, test)
        with chaos.case(PROMISE):
            pass
    chaos.tried(PROMISE, 1000, 2.0)
    chaos.aside(PROMISE, "refused while it restarted", 3)
    with pytest.raises(ZeroDivisionError), chaos.case(PROMISE, "a disk of no size"):
        _ = 1 / 0
    assert table(ledger).splitlines()[2:] == [
        "| The worker goes on; refused while it restarted: 3 | 1,003 | 1 | 2 |"
    ]
    assert chaos.repeat == (
        "tox -e chaos -- --seed=7 --case='a disk of no size' 'tests/chaos/test_b.py::test_two'"
    )


def test_what_several_processes_tried_is_one_table() -> None:
    whole, parts = Ledger(7, quick=False), (Ledger(7, quick=False), Ledger(7, quick=False))
    for number, part in enumerate(parts):
        part.add(PROMISE, tried=2, broken=number, seconds=1.0)
        part.aside(PROMISE, "refused", 3)
        whole.take(part.results)
    assert whole.results == (Result(PROMISE, 4, 1, 2.0, {"refused": 6}),)


def test_the_quick_part_is_chosen_by_the_seed_and_one_case_by_its_name() -> None:
    def part(seed: int, *, quick: bool = True, only: str = "") -> list[int]:
        return Chaos(Ledger(seed, quick=quick), "test_x", only).part(range(100), quick=5)

    assert part(1) == sorted(part(1))
    assert len(part(1)) == 5
    assert part(1) != part(2)
    assert part(1, quick=False) == list(range(100))
    assert part(1, only="42") == [42]


def test_a_case_has_the_same_random_numbers_when_it_is_repeated_alone() -> None:
    def thrown(name: str, *, seed: int = 7) -> float:
        return Chaos(Ledger(seed, quick=False), "tests/chaos/test_a.py::x").dice(name).random()

    assert thrown("a") == thrown("a")
    assert len({thrown("a"), thrown("b"), thrown("a", seed=8)}) == 3


def test_the_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    ledger = Ledger(7, quick=False)
    ledger.add(PROMISE, tried=2, seconds=1.0)
    for _ in range(2):
        record(ledger, page)
        text = page.read_text()
        assert text.startswith(f"# Before\n{BEGIN}\n\n")
        assert "seed 7:\n\n| promise |" in text
        assert "| The worker goes on | 2 | 0 | 1 |\n\n" in text
        assert text.endswith(f"{END}\nafter\n")
        assert "old" not in text


@pytest.mark.parametrize(
    ("choice", "part"),
    [
        (["tests/chaos/test_load.py"], "a choice of it"),
        (["-o", "testpaths=tests/chaos", "--case=disk"], "a choice of it"),
        (["-o", "testpaths=tests/chaos", "-k", "disk"], "a choice of it"),
        (["-o", "testpaths=tests/chaos", "--quick"], "the quick part"),
    ],
    ids=["module", "case", "word", "quick"],
)
def test_only_the_whole_is_recorded(choice: list[str], part: str) -> None:
    argv = [sys.executable, "-m", "pytest", "-n", "0", "--record", *choice]
    done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--record is for the whole suite, and this is {part}" in done.stderr
