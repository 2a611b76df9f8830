"""The one reconcile: look at the machine, do what is missing, nothing else.

Between the charm, which knows Juju, and the rooms below, which don't.  No
failure of a download, of apt or of a GPU leaves here as an exception: it is
remembered (`attempts`), shown in the status, and tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import attempts
from concourse import keys, release, service, teardown, web, worker
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from concourse.versions import may_switch, newest
from concourse.web_environment import TSA_PORT, WebSecrets
from concourse.web_keys import public_host_key
from desired import Wish
from files import remove
from gpu.manager import GpuManager, GpuState
from host import Layout, Trouble, trouble_of
from juju import Juju
from status import Seen
from tsa import Web
from web_desired import WebSide
from web_workload import WebWorkload
from worker_workload import WorkerWorkload

log = logging.getLogger(__name__)

RELEASE = "release"
SERVICE = "service"
GPU_UNDO = "gpu-undo"
RETIRE_LIMIT = 300.0  # seconds that a removed worker has to finish its builds


class Workload:
    """A unit's Concourse: the worker and its GPUs, the web, or both.

    Args:
        layout: where everything lies.
        progress: called with a short sentence while something long runs.
    """

    def __init__(self, layout: Layout, progress: Callable[[str], None]) -> None:
        self._layout = layout
        self._progress = progress
        self.gpu = GpuManager(layout, progress)
        self.web = WebWorkload(layout, progress)
        self.worker = WorkerWorkload(layout, progress, self.gpu)

    def reconcile(self, wish: Wish, juju: Juju, *, at_once: bool, everybody: bool = True) -> None:
        """Do what is missing between the machine and the wish.

        Args:
            wish: what the operator wants.
            juju: the model.
            at_once: try again what failed before, even if its pause isn't over.
            everybody: whether a web reads every related worker's key again.
        """
        if wish.gpu or wish.gpu_error:
            attempts.succeeded(self._layout, GPU_UNDO)  # wanted no more
        elif self._may_undo(wish, juju):
            self._undo_gpu()  # needs nothing that could fail to be downloaded
        tree = self._ensure_release(wish, juju, at_once=at_once)
        if tree is None:
            return
        try:
            if release.current(self._layout) is None:
                release.ensure_current(self._layout, tree)  # nothing runs yet that could meet it
            gpu = self._ensure_gpu(wish, at_once=at_once)
            self.gpu.carry(tree)
            release.ensure_current(self._layout, tree)
            self._leave_other_roles(wish, juju)
            own = self._worker_key(wish, tree)
            _require_schema(wish, tree)
            mine = own if wish.mode == "all" else {}
            secrets = self.web.ensure(wish, juju, tree, mine, everybody=everybody)
            if "worker" in wish.roles:
                gateway = _own_web(secrets) if wish.mode == "all" else wish.web
                known = self.web.answers() if wish.mode == "all" else None
                self.worker.ensure(wish, juju, gpu, tree, gateway, own, known=known)
            release.prune(self._layout)
            attempts.succeeded(self._layout, SERVICE)
        except (Trouble, OSError) as error:
            self._failed(SERVICE, error)
        failed = attempts.last(self._layout, SERVICE) is not None
        self.worker.end_turn(wish, juju, failed=failed)

    @property
    def version(self) -> str:
        """The release that is in place, X.Y.Z; "" if none is."""
        current = release.current(self._layout)
        return current.name if current else ""

    def observe(self, wish: Wish) -> Seen:
        """Return what is to be seen on the machine; changes nothing."""
        undo = attempts.last(self._layout, GPU_UNDO)
        return Seen(
            version=self.version,
            release=attempts.last(self._layout, _release_step(wish)),
            service=attempts.last(self._layout, SERVICE),
            worker=worker.observe(self._layout),
            gpu=self.gpu.observe() if wish.gpu or wish.gpu_error else None,
            web=self.web.observe(wish.web_side) if wish.web_side else None,
            gpus_here=self.gpu.here() if wish.gpu_error.startswith("gpu-device-ids") else "",
            gpu_undo=undo.what if undo else "",
            drained=self.worker.drained,
        )

    def restart(self, *, force: bool) -> None:
        """Restart what runs; waits for nothing.

        A worker is restarted by the next reconcile when it is its turn, unless forced.

        Raises:
            Trouble: systemd refused.
        """
        self.worker.restart(force=force)
        if service.show(self._layout, service.WEB).active == "active":
            service.queue(self._layout, "restart", service.WEB)

    def remove(self) -> None:
        """Take the worker out of service and leave the machine as it was found."""
        teardown.stop(self._layout, retire=True, timeout=RETIRE_LIMIT)
        if not self._undo_gpu():
            log.error("Concourse stays in %s: the GPU wrapper leads there", self._layout.trees)
            return
        web.remove(self._layout)
        teardown.remove(self._layout)
        self._forget()

    def _ensure_release(self, wish: Wish, juju: Juju, *, at_once: bool) -> Path | None:
        """Return the tree to run: the wished release, else the one that is there.

        A worker that runs takes its turn before the download, so that not a whole fleet
        downloads at once; a unit with a web goes ahead.
        """
        current = release.current(self._layout)
        step = _release_step(wish)
        for other in attempts.steps(self._layout):
            if other.startswith(RELEASE) and other != step:
                attempts.succeeded(self._layout, other)  # another release is wanted now
        if wish.web_side:
            refused = may_switch(self._migrated(wish.web_side), wish.release.version)
            if refused:
                self._failed(step, ConcourseError(refused))
                return current
        if not (at_once or attempts.due(self._layout, step) or (current and juju.turn.asked())):
            return current
        switches = current and current.name != wish.release.version
        if switches and wish.roles == {"worker"} and self.worker.serves() and not juju.turn.take():
            return current
        wanted = wish.release
        if not release.is_complete(self._layout.trees / wanted.version):
            wanted = replace(wanted, resource=juju.attached_release())
        try:
            tree = release.ensure_tree(self._layout, wanted, self._progress)
        except (Trouble, OSError) as error:
            self._failed(step, error)
            return current
        attempts.succeeded(self._layout, step)
        return tree

    def _migrated(self, side: WebSide) -> str:
        """Return the newest release that migrated the database, as far as this unit knows."""
        current = release.current(self._layout)
        has_run = current and WebPaths(self._layout).environment.exists()
        return newest(side.migrated, current.name if current and has_run else "")

    def _may_undo(self, wish: Wish, juju: Juju) -> bool:
        """Return whether the GPU may be taken back now: the worker restarts without its tags."""
        if not self.gpu.begun or "worker" not in wish.roles or not self.worker.serves():
            return True
        return juju.turn.take()

    def _ensure_gpu(self, wish: Wish, *, at_once: bool) -> GpuState | None:
        if wish.gpu_error:
            return self.gpu.observe() if self.gpu.begun else None  # stays as it is
        if wish.gpu is None:
            return None
        return self.gpu.ensure(wish.gpu, release.trees(self._layout), at_once=at_once)

    def _forget(self) -> None:
        """Remove the charm's memory, but not what it kept aside of somebody else's."""
        for path in (*self._layout.state.glob("*"), *self._layout.state.glob(".*.tmp")):
            if path != self.gpu.kept:
                remove(path)
        with suppress(OSError):
            self._layout.state.rmdir()

    def _undo_gpu(self) -> bool:
        try:
            self.gpu.undo(release.trees(self._layout))
        except (Trouble, OSError) as error:
            self._failed(GPU_UNDO, error)
            return False
        attempts.succeeded(self._layout, GPU_UNDO)
        return True

    def _failed(self, step: str, error: Trouble | OSError) -> None:
        """Remember a failure; one of the operating system may end by itself (a full disk)."""
        trouble = error if isinstance(error, Trouble) else trouble_of(error)
        log.warning("%s: %s", step, trouble)
        attempts.failed(self._layout, step, trouble)

    def _leave_other_roles(self, wish: Wish, juju: Juju) -> None:
        """Drain and stop what this unit is no longer meant to run; waits for nothing."""
        if "worker" not in wish.roles:
            teardown.retire(self._layout)
            if keys.worker_key(self._layout).exists():
                juju.withdraw(web=False)
        if "web" not in wish.roles:
            web.land(self._layout)
            if WebPaths(self._layout).environment.exists():
                juju.withdraw(web=True)

    def _worker_key(self, wish: Wish, tree: Path) -> dict[str, str]:
        if "worker" not in wish.roles:
            return {}
        return {wish.worker_name: keys.ensure_worker_key(self._layout, tree)}


def _release_step(wish: Wish) -> str:
    """Return the name under which a failure to get the wished release is remembered."""
    return f"{RELEASE} {wish.release.version}"


def _require_schema(wish: Wish, tree: Path) -> None:
    """Raise ConcourseError where a web would run on a database that is ahead of it.

    Concourse itself doesn't refuse: see `versions`.
    """
    have = newest(tree.name)
    ahead = wish.web_side.migrated if wish.web_side else ""
    if have and may_switch(ahead, have):
        older = f"Concourse {have} is older than the {ahead} that the database was migrated for"
        refused = may_switch(ahead, wish.release.version)
        raise ConcourseError(refused or older, retry=not refused)


def _own_web(secrets: WebSecrets | None) -> Web | None:
    """Return the web on this machine as its own worker needs it."""
    if secrets is None:
        return None
    return Web((f"127.0.0.1:{TSA_PORT}",), public_host_key(secrets.tsa_host_key))
