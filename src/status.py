"""What was observed -> the one line that `juju status` shows.

The order of priority, first match wins:

1. an option that can't be read;
2. a mode that this revision doesn't have;
3. no Concourse on the unit yet (release);
4. no relation to a web, a web's data missing or malformed;
5. the worker's service: socket taken, failed, draining, starting, not registered;
6. a release that can't be fetched although an older one runs;
7. a GPU that was asked for and can't be used (the worker runs CPU work meanwhile);
8. ready.
"""

from __future__ import annotations

from dataclasses import dataclass

import ops

from attempts import Attempt
from concourse.worker import WorkerState
from desired import Wish
from gpu.manager import GpuState


@dataclass(frozen=True)
class Seen:
    """What was observed on the machine.

    Attributes:
        version: the release that /opt/concourse leads to; "" for none.
        release: the last failure to get the wished release, if it still stands.
        service: the last failure to configure or start the worker, if it still stands.
        worker: the worker's service.
        gpu: the GPU side; None with enable-gpu=false.
        gpu_undo: why the GPU set-up could not be taken back yet; "" if nothing is left.
    """

    version: str
    release: Attempt | None
    service: Attempt | None
    worker: WorkerState
    gpu: GpuState | None
    gpu_undo: str = ""


def unit_status(wish: Wish, seen: Seen) -> ops.StatusBase:
    """Return the unit's status; the module's docstring gives the order."""
    return (
        _mode(wish)
        or _release_missing(seen)
        or _web(wish)
        or (seen.service and _attempt(seen.service))
        or _service(seen.worker)
        or _release_behind(wish, seen)
        or _gpu(wish, seen)
        or _ready(seen)
    )


def _mode(wish: Wish) -> ops.StatusBase | None:
    if wish.mode == "worker":
        return None
    return ops.BlockedStatus(
        f"deployment-mode={wish.mode} needs the web, which this revision doesn't have: "
        "set deployment-mode=worker"
    )


def _release_missing(seen: Seen) -> ops.StatusBase | None:
    if seen.version:
        return None
    if seen.release is None:
        return ops.MaintenanceStatus("Concourse is not installed yet")
    return _attempt(seen.release)


def _release_behind(wish: Wish, seen: Seen) -> ops.StatusBase | None:
    if seen.release is None:
        return None
    text = f"Concourse {seen.version} runs on, {wish.release.version} failed"
    return _attempt(seen.release, before=f"{text}: ")


def _attempt(attempt: Attempt, before: str = "") -> ops.StatusBase:
    if attempt.retry:
        return ops.WaitingStatus(f"{before}{attempt.what} (will be retried)")
    return ops.BlockedStatus(f"{before}{attempt.what}")


def _web(wish: Wish) -> ops.StatusBase | None:
    if not wish.related:
        return ops.BlockedStatus(
            "No web: juju relate WEB:web-tsa APP:worker-tsa".replace("APP", wish.app)
        )
    if wish.web_error:
        return ops.BlockedStatus(f"The related web's data can't be used: {wish.web_error}")
    if wish.web is None:
        return ops.WaitingStatus("Waiting for the related web to publish its address and key")
    return None


def _service(worker: WorkerState) -> ops.StatusBase | None:
    if worker.socket_taken:
        return ops.BlockedStatus(
            f"/run/containerd/containerd.sock is taken by {worker.socket_taken}: "
            "stop it, or give this worker a machine of its own"
        )
    if worker.unit == "deactivating":
        return ops.MaintenanceStatus("Draining: running builds finish, then the worker restarts")
    if worker.unit == "failed":
        return ops.BlockedStatus(
            "concourse-worker.service failed: see journalctl -u concourse-worker"
        )
    if worker.unit != "active" or not worker.healthy:
        return ops.WaitingStatus("Worker is starting")
    if not worker.registered:
        return ops.WaitingStatus(
            "Worker runs but is not registered with the web: see journalctl -u concourse-worker"
        )
    return None


def _gpu(wish: Wish, seen: Seen) -> ops.StatusBase | None:
    if wish.gpu_error:
        return ops.BlockedStatus(wish.gpu_error)
    if seen.gpu_undo:
        return ops.WaitingStatus(f"Worker ready, GPU set-up not yet removed: {seen.gpu_undo}")
    if seen.gpu is None or seen.gpu.count:
        return None
    if seen.gpu.waiting:
        return ops.WaitingStatus(f"{seen.gpu.trouble} (will be retried)")
    return ops.BlockedStatus(seen.gpu.trouble)


def _ready(seen: Seen) -> ops.StatusBase:
    if seen.gpu is None:
        return ops.ActiveStatus("Worker ready")
    return ops.ActiveStatus(f"Worker ready (GPU: {seen.gpu.count}x NVIDIA)")
