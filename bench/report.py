"""What stands around the table: the machine in words, and the plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from . import table
from .figures import Row
from .plot import Bar, Panel, svg

SOURCE = Path(__file__).resolve().parent.parent
_BEGIN, _END = "<!-- figures: tox -e bench -- --document -->", "<!-- /figures -->"
_PANELS = {
    "check 1": "A container without a GPU, over bare runc",
    "task 1": "A task with a GPU, over nvidia-container-runtime alone",
}


def picture(rows: Sequence[Row], where: str) -> str:
    """Return the plot of a container's whole life: overhead by runtime."""
    panels = []
    for group, heading in _PANELS.items():
        bars = [_bar(row) for row in rows if row.group == group]
        if bars:
            panels.append(Panel(heading, bars))
    return svg("What a container's life costs more, by runtime", panels, where)


def _bar(row: Row) -> Bar:
    label = row.name.partition(": ")[2]
    return Bar(label, row.overhead_ms, row.spread_ms, ours=label.startswith("this charm"))


def document(rows: Sequence[Row], where: str, root: Path = SOURCE) -> None:
    """Put the figures into the documentation, between marks that stay.

    Args:
        rows: all of them for docs/explanation/cost.md; for README those with a goal that need no
            explanation.
        where: the machine.
        root: the source tree.
    """
    day = datetime.now(timezone.utc).date().isoformat()
    said = f"Measured on {day}: {where}."
    folder = root / "docs/explanation"
    (folder / "overhead.svg").write_text(picture(rows, where), encoding="utf-8")
    _fill(folder / "cost.md", f"{said}\n\n{table.markdown(rows)}")
    short = [
        row for row in rows if row.goal and row.group != "alone" and " at once" not in row.name
    ]
    _fill(root / "README.md", f"{said}\n\n{table.markdown(short)}")


def _fill(page: Path, text: str) -> None:
    before, rest = page.read_text(encoding="utf-8").split(f"{_BEGIN}\n", 1)
    after = rest.split(_END, 1)[1]
    page.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", encoding="utf-8")


def machine() -> str:
    """Return this machine in words: processors, memory, system, kernel."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if "model name" in line
        ),
        platform.machine(),
    )
    kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if "MemTotal" in line), 0)
    count = os.cpu_count() or 1
    return f"{count} x {model}, {kib / 2**20:.0f} GiB, {system}, Linux {platform.release()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
