"""The mission's verification checklist, line by line, for the action verify-gpu."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from gpu import looks, probe, runtime, selftest, toolkit
from gpu.diagnosis import diagnose
from gpu.inventory import look
from gpu.looks import Offer
from gpu.selection import DeviceRequest, select
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
    offer = looks.settled(layout) or Offer()
    count = len(offer.allowed)
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
        _check("nvidia-smi lists the GPUs that tasks are given", lambda: _here(layout, offer)),
        _check("the chain answers --version, without a loop", lambda: _chain(layout)),
        _check("a task container sees its GPUs", lambda: _task_sees(layout, offer)),
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


def _here(layout: Layout, offer: Offer) -> str:
    """Look again: the settled offer follows two looks later, tasks meet what is there now."""
    if not offer.allowed:
        return "no GPU is usable"
    seen = look(layout)
    diagnosis = diagnose(seen)
    if not diagnosis.usable:
        return diagnosis.message
    # The wish begins with the request; of a list, what was here of it is what counts.
    everything = offer.wish.startswith(str(DeviceRequest()))
    request = DeviceRequest() if everything else DeviceRequest(False, offer.allowed)
    now = select(seen, request)
    changes = [f"{name} is gone" for name in sorted(set(offer.allowed) - set(now.allowed))]
    changes += [f"{name} is new" for name in sorted(set(now.allowed) - set(offer.allowed))]
    if not changes and set(now.spellings) != set(offer.spellings):
        changes.append("their indices have changed")
    return ", ".join(changes)


def _task_sees(layout: Layout, offer: Offer) -> str:
    if not offer.allowed:
        return "no GPU is usable"
    nodes = probe.gpu_nodes(probe.devices_in_container(layout, task=True))
    return amiss(nodes, offer)


def amiss(nodes: Collection[str], offer: Offer) -> str:
    """Return what is wrong with the nodes that a task sees; "" if it sees what is offered.

    Their numbers are the driver's, not nvidia-smi's, so that only how many counts.  Of a
    GPU in MIG mode a task sees the one node, whichever of its MIG devices it has.

    Args:
        nodes: the names, as "nvidia0".
        offer: what tasks are given.
    """
    # An id is the index of a GPU, or "GPU index:MIG index"; every UUID stands beside one.
    ids = [name for name, uuid in offer.spellings if name != uuid]
    wanted = len({name.partition(":")[0] for name in ids})
    if len(nodes) == wanted:
        return ""
    return f"it sees {', '.join(nodes) or 'none'}, of {wanted}"


def _check_sees(layout: Layout) -> str:
    nodes = probe.devices_in_container(layout, task=False)
    return f"it sees {', '.join(nodes)}" if nodes else ""
