"""The one reconcile: look at the machine, do what is missing, nothing else.

Between the charm, which knows Juju, and the rooms below, which don't.  No
failure of a download, of apt or of a GPU leaves here as an exception: it is
remembered (`attempts`), shown in the status, and tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attempts
from concourse import keys, release, service, teardown, trees, web, worker
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from concourse.versions import may_switch
from concourse.web_environment import TSA_PORT, WebSecrets
from concourse.web_keys import public_host_key
from concourse.worker import WorkerWish
from desired import Wish
from files import remove, write_file
from gpu import place
from gpu.manager import GpuManager, GpuState
from host import Layout, Trouble, wait_until
from juju import Juju
from status import Seen
from tsa import Web
from web_workload import WebWorkload

log = logging.getLogger(__name__)

RELEASE = "release"
SERVICE = "service"
GPU_UNDO = "gpu-undo"
# Seconds.  A first start takes a few.  A restart lands first, which even without builds takes up
# to the web's next heartbeat (30 s): then the status says so, and the next hook goes on.
START_LIMIT = 20.0
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

    def reconcile(self, wish: Wish, juju: Juju, *, at_once: bool, everybody: bool = True) -> None:
        """Do what is missing between the machine and the wish.

        Args:
            wish: what the operator wants.
            juju: the model.
            at_once: try again what failed before, even if its pause isn't over.
            everybody: whether a web reads every related worker's key again.
        """
        if wish.gpu is None and not wish.gpu_error:
            self._undo_gpu()  # needs nothing that could fail to be downloaded
        tree = self._ensure_release(wish, at_once=at_once)
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
            mine = own if wish.mode == "all" else {}
            secrets = self.web.ensure(wish, juju, tree, mine, everybody=everybody)
            if "worker" in wish.roles:
                gateway = _own_web(secrets) if wish.mode == "all" else wish.web
                self._run_worker(wish, juju, gpu, tree, gateway, own[wish.worker_name])
            release.prune(self._layout)
        except (Trouble, OSError) as error:
            self._failed(SERVICE, error)
            return
        attempts.succeeded(self._layout, SERVICE)

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
            drained=self._drained.exists(),
        )

    def drain(self) -> None:
        """Have the worker finish its builds and stay down until `resume`; waits for nothing."""
        write_file(self._drained, "", mode=0o600)
        service.land(self._layout)

    def resume(self) -> bool:
        """Let the next reconcile start a drained worker; True if it was drained."""
        return remove(self._drained)

    def restart(self, *, force: bool) -> None:
        """Restart what runs; a worker lands first unless forced.  Waits for nothing.

        Raises:
            Trouble: systemd refused.
        """
        for unit in (service.UNIT, service.WEB):
            if service.show(self._layout, unit).active != "active":
                continue
            service.queue(self._layout, "restart", unit)
            if force and unit == service.UNIT:
                service.send(self._layout, "SIGTERM", unit)

    def remove(self) -> None:
        """Take the worker out of service and leave the machine as it was found."""
        teardown.stop(self._layout, retire=True, timeout=RETIRE_LIMIT)
        if not self._undo_gpu():
            log.error("Concourse stays in %s: the GPU wrapper leads there", self._layout.trees)
            return
        web.remove(self._layout)
        teardown.remove(self._layout)
        self._forget()

    @property
    def _drained(self) -> Path:
        return self._layout.state / "drained"

    def _ensure_release(self, wish: Wish, *, at_once: bool) -> Path | None:
        """Return the tree to run: the wished release, else the one that is there."""
        current = release.current(self._layout)
        step = _release_step(wish)
        for other in attempts.steps(self._layout):
            if other.startswith(RELEASE) and other != step:
                attempts.succeeded(self._layout, other)  # another release is wanted now
        if current and "web" in wish.roles and trees.VERSION.fullmatch(current.name):
            refused = may_switch(current.name, wish.release.version)
            if refused:
                self._failed(step, ConcourseError(refused))
                return current
        if not at_once and not attempts.due(self._layout, step):
            return current
        try:
            tree = release.ensure_tree(self._layout, wish.release, self._progress)
        except (Trouble, OSError) as error:
            self._failed(step, error)
            return current
        attempts.succeeded(self._layout, step)
        return tree

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
        trouble = error if isinstance(error, Trouble) else Trouble(str(error), retry=True)
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

    def _run_worker(
        self,
        wish: Wish,
        juju: Juju,
        gpu: GpuState | None,
        tree: Path,
        gateway: Web | None,
        key: str,
    ) -> None:
        told = juju.publish_worker_key(wish.worker_name, key)
        known = self.web.answers() if wish.mode == "all" else told
        if self._ensure_worker(wish, gpu, tree, gateway):
            self._progress("Starting the Concourse worker")
            # The web learns a new key when this hook is over, so there is no use in waiting
            # for more than a worker that answers.
            wait_until(lambda: self._started(registered=known), timeout=START_LIMIT)

    def _ensure_worker(
        self, wish: Wish, gpu: GpuState | None, tree: Path, gateway: Web | None
    ) -> bool:
        """Configure the service and have systemd run it; True if it was asked to."""
        if self._drained.exists():
            return False
        if gateway is None:
            if not wish.related:
                worker.dismiss(self._layout, keep_config=self.gpu.begun)
            return False
        in_lxd = place.see(self._layout).kind == "lxd"
        worker_wish = WorkerWish(
            name=wish.worker_name,
            tsa_hosts=gateway.hosts,
            tsa_host_key=gateway.host_key,
            tags=gpu.tags if gpu else (),
            log_level=wish.log_level,
            dns_proxy=wish.dns_proxy,
            dns_server=wish.dns_server,
            baggageclaim_driver=worker.baggageclaim_driver(wish.baggageclaim_driver, in_lxd=in_lxd),
            containerd_config=self._layout.gpu_containerd if self.gpu.begun else None,
            max_tasks=gpu.count if gpu and gpu.sharing == "exclusive" else 0,
            extra=wish.worker_env,
            proxies=wish.proxies,
        )
        worker.ensure_files(self._layout, worker_wish, tree)
        return worker.ensure_running(self._layout)

    def _started(self, *, registered: bool) -> bool:
        state = worker.observe(self._layout)
        ready = state.registered if registered else state.healthy
        return state.unit == "failed" or (state.up_to_date and ready)


def _release_step(wish: Wish) -> str:
    """Return the name under which a failure to get the wished release is remembered."""
    return f"{RELEASE} {wish.release.version}"


def _own_web(secrets: WebSecrets | None) -> Web | None:
    """Return the web on this machine as its own worker needs it."""
    if secrets is None:
        return None
    return Web((f"127.0.0.1:{TSA_PORT}",), public_host_key(secrets.tsa_host_key))
