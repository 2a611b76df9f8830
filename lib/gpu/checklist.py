"""The mission's verification checklist, line by line, for the action verify-gpu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpu import looks, probe, runtime, selftest, toolkit
from host import Layout, Trouble

PASS = "pass"  # noqa: S105
FAIL = "fail"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Check:
    """One line of the checklist.

    Attributes:
        name: what is checked, as an operator reads it.
        result: "pass", "fail" or "not run".
        reason: why it failed or wasn't run; "" for a pass.
    """

    name: str
    result: str
    reason: str = ""

    def __str__(self) -> str:
        line = f"{self.result:<7}  {self.name}"
        return f"{line}: {self.reason}" if self.reason else line


def checklist(layout: Layout, status: str) -> tuple[Check, ...]:
    """Go through the checklist; changes nothing but two probe containers that it removes.

    Args:
        layout: where everything lies.
        status: the unit's status line.
    """
    offer = looks.settled(layout)
    count = len(offer.allowed) if offer else 0
    wanted = f"Worker ready (GPU: {count}x NVIDIA)"
    return (
        _check(f'status shows "{wanted}"', lambda: _status(status, wanted, count)),
        _check(f"{layout.wrapper} is executable", lambda: _wrapper(layout)),
        _check(f"{layout.runc} leads to the wrapper", lambda: _swapped(layout.runc)),
        _check(f"{layout.runc_real} is the original", lambda: _original(layout.runc_real)),
        _check(f"{layout.nvidia_runtime} leads to the wrapper", lambda: _diverted(layout)),
        _check(
            f"{layout.nvidia_runtime_real} is the original",
            lambda: _original(layout.nvidia_runtime_real),
        ),
        _check("jq is installed", lambda: _program(layout, "jq")),
        _check("nvidia-container-toolkit is installed", lambda: _toolkit(layout)),
        _check("the chain answers --version, without a loop", lambda: _chain(layout)),
        _check("a task container sees its GPUs", lambda: _task_sees(layout, count)),
        _check("a check container sees no GPU", lambda: _check_sees(layout)),
        Check(
            "a GPU pipeline passes",
            NOT_RUN,
            "needs a pipeline on the web: examples/nvidia-smi.yml",
        ),
        Check(
            "a benchmark shows the GPU's speed",
            NOT_RUN,
            "needs a pipeline on the web: examples/benchmark.yml",
        ),
    )


def _check(name: str, question: Callable[[], str]) -> Check:
    """Ask a question that answers "" for yes and a reason for no."""
    try:
        reason = question()
    except Trouble as trouble:
        reason = str(trouble)
    return Check(name, FAIL if reason else PASS, reason)


def _status(status: str, wanted: str, count: int) -> str:
    if not count:
        return f"no GPU is usable: {status}"
    return "" if status == wanted else status


def _wrapper(layout: Layout) -> str:
    kind = runtime.classify(layout.wrapper)
    if kind is runtime.Kind.WRAPPER and layout.wrapper.exists():
        return ""
    return f"{layout.wrapper} is {kind.value}"


def _swapped(path: Path) -> str:
    kind = runtime.classify(path)
    return "" if kind is runtime.Kind.WRAPPER and path.exists() else f"it is {kind.value}"


def _original(path: Path) -> str:
    kind = runtime.classify(path)
    return "" if kind is runtime.Kind.ORIGINAL else f"it is {kind.value}"


def _diverted(layout: Layout) -> str:
    if not runtime.is_diverted(layout):
        return "dpkg does not divert it: the next upgrade of the toolkit would undo the swap"
    return _swapped(layout.nvidia_runtime)


def _program(layout: Layout, name: str) -> str:
    return "" if Path(layout.program(name)).is_file() else f"{name} is missing"


def _toolkit(layout: Layout) -> str:
    state = toolkit.installed(layout)
    if not state.version:
        return "it is missing"
    return "" if state.safe else f"version {state.version} is below the safe floor"


def _chain(layout: Layout) -> str:
    selftest.through_names(layout)
    return ""


def _task_sees(layout: Layout, count: int) -> str:
    if not count:
        return "no GPU is usable"
    nodes = probe.gpu_nodes(probe.devices_in_container(layout, task=True))
    return "" if nodes else "it sees none"


def _check_sees(layout: Layout) -> str:
    nodes = probe.devices_in_container(layout, task=False)
    return f"it sees {', '.join(nodes)}" if nodes else ""
