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
from concourse import keys, release, teardown, worker
from concourse.worker import WorkerWish
from desired import Wish
from files import remove
from gpu import place
from gpu.manager import GpuManager, GpuState
from host import Layout, Trouble, wait_until
from status import Seen

log = logging.getLogger(__name__)

RELEASE = "release"
SERVICE = "service"
GPU_UNDO = "gpu-undo"
START_LIMIT = 20.0  # seconds; an idle worker is back and registered well within
RETIRE_LIMIT = 300.0  # seconds that a removed worker has to finish its builds


class Workload:
    """A unit's Concourse worker and its GPUs.

    Args:
        layout: where everything lies.
        progress: called with a short sentence while something long runs.
    """

    def __init__(self, layout: Layout, progress: Callable[[str], None]) -> None:
        self._layout = layout
        self._progress = progress
        self.gpu = GpuManager(layout, progress)

    def reconcile(self, wish: Wish, publish_key: Callable[[str], bool], *, at_once: bool) -> None:
        """Do what is missing between the machine and the wish.

        Args:
            wish: what the operator wants, mode worker.
            publish_key: called with the worker's public key, one line, once there is one;
                says whether the web knew it before.
            at_once: try again what failed before, even if its pause isn't over.
        """
        tree = self._ensure_release(wish, at_once=at_once)
        if tree is None:
            return
        try:
            if release.current(self._layout) is None:
                release.ensure_current(self._layout, tree)  # nothing runs yet that could meet it
            gpu = self._ensure_gpu(wish, at_once=at_once)
            release.ensure_current(self._layout, tree)
            known = publish_key(keys.ensure_worker_key(self._layout, tree))
            if self._ensure_worker(wish, gpu, tree):
                self._progress("Starting the Concourse worker")
                # The web learns a new key when this hook is over, so there is no use in waiting
                # for more than a worker that answers.
                wait_until(lambda: self._started(registered=known), timeout=START_LIMIT)
            release.prune(self._layout)
        except (Trouble, OSError) as error:
            self._failed(SERVICE, error)
            return
        attempts.succeeded(self._layout, SERVICE)

    def observe(self, wish: Wish) -> Seen:
        """Return what is to be seen on the machine; changes nothing."""
        undo = attempts.last(self._layout, GPU_UNDO)
        current = release.current(self._layout)
        return Seen(
            version=current.name if current else "",
            release=attempts.last(self._layout, RELEASE),
            service=attempts.last(self._layout, SERVICE),
            worker=worker.observe(self._layout),
            gpu=self.gpu.observe() if wish.gpu or wish.gpu_error else None,
            gpu_undo=undo.what if undo else "",
        )

    def remove(self) -> None:
        """Take the worker out of service and leave the machine as it was found."""
        teardown.stop(self._layout, retire=True, timeout=RETIRE_LIMIT)
        if not self._undo_gpu():
            log.error("Concourse stays in %s: the GPU wrapper leads there", self._layout.trees)
            return
        teardown.remove(self._layout)
        self._forget()

    def _ensure_release(self, wish: Wish, *, at_once: bool) -> Path | None:
        """Return the tree to run: the wished release, else the one that is there."""
        current = release.current(self._layout)
        if not at_once and not attempts.due(self._layout, RELEASE):
            return current
        try:
            tree = release.ensure_tree(self._layout, wish.release, self._progress)
        except (Trouble, OSError) as error:
            self._failed(RELEASE, error)
            return current
        attempts.succeeded(self._layout, RELEASE)
        return tree

    def _ensure_gpu(self, wish: Wish, *, at_once: bool) -> GpuState | None:
        if wish.gpu_error:
            return self.gpu.observe() if self.gpu.begun else None  # stays as it is
        if wish.gpu is None:
            self._undo_gpu()
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

    def _ensure_worker(self, wish: Wish, gpu: GpuState | None, tree: Path) -> bool:
        """Configure the service and have systemd run it; True if it was asked to."""
        if wish.web is None:
            if not wish.related:
                teardown.land(self._layout)
            return False
        in_lxd = place.see(self._layout).kind == "lxd"
        worker_wish = WorkerWish(
            name=wish.worker_name,
            tsa_hosts=wish.web.hosts,
            tsa_host_key=wish.web.host_key,
            tags=gpu.tags if gpu else (),
            log_level=wish.log_level,
            dns_proxy=wish.dns_proxy,
            dns_server=wish.dns_server,
            baggageclaim_driver=worker.baggageclaim_driver(wish.baggageclaim_driver, in_lxd=in_lxd),
            containerd_config=self._layout.gpu_containerd if self.gpu.begun else None,
            proxies=wish.proxies,
        )
        worker.ensure_files(self._layout, worker_wish, tree)
        return worker.ensure_running(self._layout)

    def _started(self, *, registered: bool) -> bool:
        state = worker.observe(self._layout)
        ready = state.registered if registered else state.healthy
        return state.unit == "failed" or (state.up_to_date and ready)
