"""What the actions print: the GPUs of a unit, and the checklist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpu import inventory
from gpu.checklist import FAIL, NOT_RUN, PASS, checklist
from gpu.diagnosis import diagnose
from gpu.manager import GpuManager
from host import Layout


@dataclass(frozen=True)
class Verdict:
    """The checklist as an action's result.

    Attributes:
        results: for `ActionEvent.set_results`.
        failed: whether a line failed.
        summary: one sentence.
    """

    results: dict[str, Any]
    failed: bool
    summary: str


def gpu_status(layout: Layout, manager: GpuManager) -> dict[str, Any]:
    """Return what the action gpu-status shows: each GPU, the driver, the diagnosis."""
    seen = inventory.look(layout)
    state = manager.observe()
    diagnosis = diagnose(seen)
    results: dict[str, Any] = {
        "diagnosis": diagnosis.message or "ready",
        "usable": state.count,
        "driver": seen.driver or seen.module or "none",
        "cuda": inventory.cuda_version(layout) if seen.gpus else "unknown",
    }
    if diagnosis.note:
        results["note"] = diagnosis.note
    if state.tags:
        results["tags"] = ", ".join(state.tags)
    for gpu in seen.gpus:
        memory = "unknown" if gpu.memory_mib is None else f"{gpu.memory_mib} MiB"
        results[f"gpu-{gpu.index}"] = {"uuid": gpu.uuid, "name": gpu.name, "memory": memory}
    return results


def verify_gpu(layout: Layout, status: str) -> Verdict:
    """Go through the checklist.

    Args:
        layout: where everything lies.
        status: the unit's status line.
    """
    checks = checklist(layout, status)
    counts = {kind: sum(check.result == kind for check in checks) for kind in (PASS, FAIL, NOT_RUN)}
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    results = {"summary": summary, "checklist": "\n".join(map(str, checks))}
    return Verdict(results, counts[FAIL] > 0, summary)
