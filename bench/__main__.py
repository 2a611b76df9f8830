"""The command `python -m bench`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rehearsal.machine import Machine, MachineError, MachineOptions
from rehearsal.screen import Screen

from . import alone, containers, hooks, joins, report, setup, table
from .figures import Row
from .runtimes import SOURCE, Runtimes

OUTPUT = SOURCE / "build"


@dataclass(frozen=True)
class Choice:
    """What the command line asks for.

    Attributes:
        parts: which parts of the bench.
        toolkit: a folder with NVIDIA's own nvidia-container-runtime; None for the stand-in.
        quick: one round of everything, to see that it runs; the figures say little.
        output: the folder of bench.json and overhead.svg.
        document: whether the documentation gets the table and the plot.
    """

    parts: tuple[str, ...]
    toolkit: Path | None
    quick: bool
    output: Path
    document: bool

    def rounds(self, count: int) -> int:
        return 1 if self.quick else count


def main() -> int:
    """Measure, print the table, write the files; 0 unless something couldn't be measured."""
    choice = _choice()
    if os.geteuid() != 0:
        print("The bench needs root: run it with sudo.", file=sys.stderr)
        return 1
    screen = Screen(sys.stderr)
    try:
        rows = [row for part in choice.parts for row in PARTS[part](choice, screen)]
    except MachineError as error:
        print(error, file=sys.stderr)
        return 1
    where = report.machine()
    choice.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False) + "\n"
    (choice.output / "bench.json").write_text(text)
    (choice.output / "bench.md").write_text(table.markdown(rows) + "\n")
    (choice.output / "overhead.svg").write_text(report.picture(rows, where))
    if choice.document:
        report.document(rows, where)
    print(f"{table.screen(rows)}\n\n{where}\nmedians; in brackets the quartiles of the differences")
    print(f"{choice.output}/bench.json, bench.md, overhead.svg")
    return 0


def _machine(screen: Screen) -> AbstractContextManager[Machine]:
    binds = tuple({SOURCE, Path(sys.prefix), Path(sys.base_prefix)})
    return Machine.boot(MachineOptions(binds=binds), report=screen.line)


def _containers(choice: Choice, screen: Screen) -> list[Row]:
    with _machine(screen) as machine:
        screen.line("Putting the runtimes side by side")
        runtimes = Runtimes.install(machine, choice.toolkit)
        screen.line(runtimes.nvidia)
        runtimes.plug(1)
        screen.line("Each call of runc")
        rows = containers.calls(runtimes, choice.rounds(25))
        for count, rounds in ((1, 20), (8, 3), (32, 2)):
            if choice.quick and count > 8:
                continue
            screen.line(f"Whole lives, {count} at once")
            rows += containers.lives(runtimes, count, choice.rounds(rounds))
        screen.line("The wrapper alone")
        runtimes.plug(1)
        rows += alone.wrapper(runtimes, choice.rounds(200))
    return rows


def _hooks(choice: Choice, screen: Screen) -> list[Row]:
    with _machine(screen) as machine:
        return hooks.unchanged(machine, screen, choice.rounds(20))


def _joins(choice: Choice, screen: Screen) -> list[Row]:
    return joins.one_more(screen, choice.rounds(6))


def _setup(choice: Choice, screen: Screen) -> list[Row]:
    with _machine(screen) as machine:
        return setup.first(machine, screen, choice.rounds(3))


PARTS: dict[str, Callable[[Choice, Screen], list[Row]]] = {
    "containers": _containers,
    "hooks": _hooks,
    "joins": _joins,
    "setup": _setup,
}


def _choice() -> Choice:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure what the charm costs, in throw-away copies of this machine.",
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; repeatable")
    parser.add_argument(
        "--toolkit", type=Path, metavar="DIR", help="NVIDIA's own runtime, or packages with it"
    )
    parser.add_argument("--quick", action="store_true", help="one round, to see that it runs")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR")
    parser.add_argument(
        "--document", action="store_true", help="write the table and the plot into docs/ and README"
    )
    given = parser.parse_args()
    if given.toolkit and not given.toolkit.is_dir():
        parser.error(f"{given.toolkit} is no folder")
    parts: Sequence[str] = given.only or tuple(PARTS)
    return Choice(tuple(parts), given.toolkit, given.quick, given.output, given.document)


if __name__ == "__main__":
    sys.exit(main())
