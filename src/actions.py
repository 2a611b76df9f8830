"""What the actions print: the GPUs of a unit, the checklist, the services, the password."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from desired import Wish
from gpu import inventory, leases
from gpu.checklist import FAIL, NOT_RUN, PASS, checklist
from gpu.diagnosis import diagnose
from gpu.manager import GpuManager
from host import Layout
from status import Seen
from web_desired import WebSide


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
    """Return what the action gpu-status shows: each GPU and who holds it, driver, diagnosis."""
    seen = inventory.look(layout)
    state = manager.observe()
    diagnosis = diagnose(seen)
    holders = leases.held(layout)
    results: dict[str, Any] = {
        "diagnosis": diagnosis.message or state.trouble or "ready",
        "usable": state.count,
        "sharing": state.sharing,
        "driver": seen.driver or seen.module or "none",
        "cuda": inventory.cuda_version(layout) if seen.gpus else "unknown",
    }
    notes = [note for note in (diagnosis.note, state.note) if note]
    if notes:
        results["note"] = "; ".join(notes)
    if state.tags:
        results["tags"] = ", ".join(state.tags)
    for gpu in seen.gpus:
        memory = "unknown" if gpu.memory_mib is None else f"{gpu.memory_mib} MiB"
        shown: dict[str, Any] = {"uuid": gpu.uuid, "name": gpu.name, "memory": memory}
        shown["held-by"] = _holders(holders, gpu.uuid)
        for mig in gpu.mig if gpu.mig_on else ():
            number = mig.id.partition(":")[2]
            shown[f"mig-{number}"] = {"uuid": mig.uuid, "held-by": _holders(holders, mig.uuid)}
        results[f"gpu-{gpu.index}"] = shown
    return results


def _holders(held: Sequence[leases.Lease], uuid: str) -> str:
    """Return who holds a GPU, as `fly containers` names them, and for how long."""
    return ", ".join(f"{each.handle} ({each.age:.0f} s)" for each in held if uuid in each.uuids)


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


def admin_password(side: WebSide) -> dict[str, Any]:
    """Return what `fly login` needs; empty while the leader has not made a password."""
    if side.secrets is None:
        return {}
    return {
        "url": side.url(tls=side.tls is not None),
        "username": side.admin_user,
        "password": side.secrets.admin_password,
    }


def services(wish: Wish, seen: Seen) -> dict[str, Any]:
    """Return what the action check-status shows: release, services, links, workers."""
    results: dict[str, Any] = {
        "roles": ", ".join(sorted(wish.roles)) or "none yet",
        "release": seen.version or "none",
        "wanted-release": wish.release.version,
    }
    if "worker" in wish.roles:
        results["worker"] = {
            "service": seen.worker.unit,
            "healthy": seen.worker.healthy,
            "registered": seen.worker.registered,
            "settings": "current" if seen.worker.up_to_date else "from before the last change",
            "webs": ", ".join(wish.web.hosts) if wish.web else "none",
        }
    if seen.web:
        known = seen.web.workers >= 0
        results["web"] = {
            "service": seen.web.state.unit,
            "release": seen.web.state.version or "does not answer",
            "settings": "current" if seen.web.state.up_to_date else "from before the last change",
            "workers": seen.web.workers if known else "unknown",
            "workers-without-tags": seen.web.untagged if known else "unknown",
        }
    return results
