"""What was observed -> the one line that `juju status` shows.

The order of priority, first match wins; a unit with both roles goes through the web's
part before the worker's:

1. an option that can't be read;
2. with deployment-mode=auto, nobody chosen yet;
3. no Concourse on the unit yet (release);
4. the web: its database, its keys, its certificate, its service;
5. the worker: no relation to a web, a web's data missing or malformed;
6. a failure to configure or start either;
7. the worker's service: drained on request, socket taken, failed, draining, starting, or not
   registered;
8. a release that can't be fetched or switched to although another one runs;
9. a GPU that was asked for and can't be used (the worker runs CPU work meanwhile);
10. a restart that waits for its turn;
11. ready.
"""

from __future__ import annotations

from dataclasses import dataclass

import ops

from attempts import Attempt
from certificates import TlsTrouble
from concourse.worker import WorkerState
from database import DatabaseTrouble
from desired import Wish
from gpu.manager import GpuState
from web_workload import WebSeen


@dataclass(frozen=True)
class Seen:
    """What was observed on the machine.

    Attributes:
        version: the release that /opt/concourse leads to; "" for none.
        release: the last failure to get the wished release, if it still stands.
        service: the last failure to configure or start the worker, if it still stands.
        worker: the worker's service.
        gpu: the GPU side; None with enable-gpu=false.
        web: the web; None where this unit runs none.
        drained: whether the operator took the worker out of service.
        gpus_here: what gpu-device-ids could name, where it can't be read; else "".
        gpu_undo: why the GPU set-up could not be taken back yet; "" if nothing is left.
    """

    version: str
    release: Attempt | None
    service: Attempt | None
    worker: WorkerState
    gpu: GpuState | None
    web: WebSeen | None = None
    gpus_here: str = ""
    gpu_undo: str = ""
    drained: bool = False


def unit_status(wish: Wish, seen: Seen) -> ops.StatusBase:
    """Return the unit's status; the module's docstring gives the order."""
    worker = "worker" in wish.roles
    return (
        _role(wish)
        or _release_missing(seen)
        or _database(wish)
        or _certificate(wish)
        or (_web(wish) if worker else None)
        or (seen.service and _attempt(seen.service))
        or (seen.web and _web_service(seen.web))
        or (_drained(seen) if worker else None)
        or (_service(seen.worker) if worker else None)
        or _release_behind(wish, seen)
        or _gpu(wish, seen)
        or _turn(wish, seen)
        or _ready(wish, seen)
    )


def _role(wish: Wish) -> ops.StatusBase | None:
    if wish.roles:
        return None
    return ops.WaitingStatus("Waiting for the leader to choose the unit that runs the web")


def _database(wish: Wish) -> ops.StatusBase | None:
    side = wish.web_side
    if side is None:
        return None
    if isinstance(side.database, DatabaseTrouble):
        kind = ops.BlockedStatus if side.database.blocked else ops.WaitingStatus
        return kind(side.database.message)
    if side.secrets is None:
        return ops.WaitingStatus("Waiting for the leader to make the web's keys")
    if side.encrypted and not side.secrets.encryption_key:
        return ops.WaitingStatus("Waiting for the leader to make the database's encryption key")
    return None


def _certificate(wish: Wish) -> ops.StatusBase | None:
    side = wish.web_side
    if side is None or not isinstance(side.tls, TlsTrouble):
        return None
    kind = ops.BlockedStatus if side.tls.blocked else ops.WaitingStatus
    return kind(side.tls.message)


def _web_service(seen: WebSeen) -> ops.StatusBase | None:
    if seen.state.unit == "failed":
        return ops.BlockedStatus("concourse-web.service failed: see journalctl -u concourse-web")
    if seen.state.unit != "active" or not seen.state.answers:
        why = f": {seen.state.trouble}" if seen.state.trouble else ""
        return ops.WaitingStatus(f"Web is starting{why}")
    return None


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
        return ops.BlockedStatus(f"No web: juju relate WEB:web-tsa {wish.app}:worker-tsa")
    if wish.web_error:
        return ops.BlockedStatus(f"The related web's data can't be used: {wish.web_error}")
    if wish.web is None and wish.mode != "all":
        return ops.WaitingStatus("Waiting for the related web to publish its address and key")
    return None


def _drained(seen: Seen) -> ops.StatusBase | None:
    if not seen.drained:
        return None
    if seen.worker.unit in ("active", "deactivating"):
        return ops.MaintenanceStatus("Draining: running builds finish, then the worker stays down")
    return ops.MaintenanceStatus("Drained: juju run UNIT resume takes it back into service")


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
        here = f"; here: {seen.gpus_here}" if seen.gpus_here else ""
        return ops.BlockedStatus(wish.gpu_error + here)
    if seen.gpu_undo:
        return ops.WaitingStatus(f"Worker ready, GPU set-up not yet removed: {seen.gpu_undo}")
    return _gpu_trouble(seen.gpu) if seen.gpu else None


def _gpu_trouble(gpu: GpuState) -> ops.StatusBase | None:
    if gpu.count and gpu.note:
        return ops.WaitingStatus(f"{_worker_ready(gpu)}, but {gpu.note} (will be retried)")
    if gpu.count:
        return None
    if gpu.waiting:
        return ops.WaitingStatus(f"{gpu.trouble} (will be retried)")
    return ops.BlockedStatus(gpu.trouble)


def _turn(wish: Wish, seen: Seen) -> ops.StatusBase | None:
    if not wish.waits or "worker" not in wish.roles:
        return None
    many = f"max-unavailable={wish.max_unavailable}"
    ready = _worker_ready(seen.gpu)
    return ops.WaitingStatus(f"{ready}; a restart waits for its turn ({many})")


def _worker_ready(gpu: GpuState | None) -> str:
    return f"Worker ready (GPU: {gpu.count}x NVIDIA)" if gpu else "Worker ready"


def _ready(wish: Wish, seen: Seen) -> ops.StatusBase:
    parts = []
    if seen.web:
        parts.append("Web ready")
    if "worker" in wish.roles:
        parts.append(_worker_ready(seen.gpu))
    text = ", ".join(parts)
    if seen.web and seen.web.workers == 0:
        text += "; no worker yet"
    elif seen.web and seen.web.untagged == 0:
        text += "; every worker has tags: untagged steps and checks have nowhere to run"
    return ops.ActiveStatus(text)
