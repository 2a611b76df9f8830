"""The worker's half of a reconcile: its files, its service, its turn to be down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from concourse import service, worker
from concourse.worker import WorkerWish
from desired import Wish
from files import read_text, remove, write_file
from gpu import place
from gpu.manager import GpuManager, GpuState
from host import Layout, wait_until
from juju import Juju
from tsa import Web

# Seconds.  A first start takes a few.  A restart lands first, which even without builds takes up
# to 40 (the web answers with a heartbeat, one every 30).  With builds no hook waits for it.
START_LIMIT = 20.0
RESTART_LIMIT = 60.0


class WorkerWorkload:
    """A unit's Concourse worker.

    Args:
        layout: where everything lies.
        progress: called with a short sentence while something long runs.
        gpu: the GPU side, of which the worker's configuration depends.
    """

    def __init__(self, layout: Layout, progress: Callable[[str], None], gpu: GpuManager) -> None:
        self._layout = layout
        self._progress = progress
        self._gpu = gpu

    def ensure(
        self,
        wish: Wish,
        juju: Juju,
        gpu: GpuState | None,
        tree: Path,
        gateway: Web | None,
        own: Mapping[str, str],
        *,
        known: bool | None,
    ) -> None:
        """Do what is missing between the machine and the wish for a worker.

        Args:
            wish: what the operator wants.
            juju: the model.
            gpu: what the GPU side came to; None without.
            tree: the release that /opt/concourse leads to.
            gateway: the web to register with; None while it isn't known.
            own: this worker's public key, by name.
            known: whether the web lets this worker in; None: once it was told its key in an
                earlier hook.
        """
        told = juju.publish_worker_key(wish.worker_name, own[wish.worker_name])
        limit = self._start(wish, juju, gpu, tree, gateway)
        if limit:
            self._progress("Starting the Concourse worker")
            # The web learns a new key when this hook is over, so there is no use in waiting
            # for more than a worker that answers.
            registered = told if known is None else known
            wait_until(lambda: self._started(registered=registered), timeout=limit)

    @property
    def drained(self) -> bool:
        """Whether the operator took the worker out of service."""
        return self._drained.exists()

    def serves(self) -> bool:
        """Return whether a worker runs here that is to go on until it is its turn."""
        return not self.drained and worker.runs(self._layout)

    def end_turn(self, wish: Wish, juju: Juju, *, failed: bool) -> None:
        """Give this unit's turn back once its worker is back, or isn't meant to be.

        Args:
            wish: what the operator wants.
            juju: the model.
            failed: whether something went wrong, so that the restart may not come soon.
        """
        if juju.turn.waits or not juju.turn.asked():
            return
        state = worker.observe(self._layout)
        back = state.registered and (state.up_to_date or failed)
        meant = "worker" in wish.roles and wish.related and not self.drained
        if back or not meant:
            juju.turn.end()

    def drain(self) -> None:
        """Have the worker finish its builds and stay down until `resume`; waits for nothing."""
        write_file(self._drained, "", mode=0o600)
        service.land(self._layout)

    def resume(self) -> bool:
        """Let the next reconcile start a drained worker; True if it was drained."""
        return remove(self._drained)

    def restart(self, *, force: bool) -> None:
        """Have a running worker restart; waits for nothing.

        The next reconcile does it when it is this unit's turn, and the worker lands first.
        With force it is told to stop at once.

        Raises:
            Trouble: systemd refused.
        """
        if not worker.runs(self._layout):
            return
        if not force:
            write_file(self._restart, f"{time.time_ns()}\n", mode=0o600)
            return
        service.queue(self._layout, "restart")
        service.send(self._layout, "SIGTERM")

    @property
    def _drained(self) -> Path:
        return self._layout.state / "drained"

    @property
    def _restart(self) -> Path:
        return self._layout.state / "restart"

    def _start(
        self, wish: Wish, juju: Juju, gpu: GpuState | None, tree: Path, gateway: Web | None
    ) -> float:
        """Configure the service and have systemd run it; return the seconds to wait for it."""
        if self.drained:
            return 0
        if gateway is None:
            if not wish.related:
                worker.dismiss(self._layout, keep_config=self._gpu.begun)
            return 0
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
            containerd_config=self._layout.gpu_containerd if self._gpu.begun else None,
            max_tasks=gpu.count if gpu and gpu.sharing == "exclusive" else 0,
            extra=wish.worker_env,
            proxies=wish.proxies,
            restart=read_text(self._restart) or "",
        )
        worker.ensure_files(self._layout, worker_wish, tree)
        state = service.show(self._layout)
        if not worker.would_restart(self._layout, state):
            return START_LIMIT if worker.ensure_running(self._layout, state) else 0
        if not juju.turn.take():
            return 0
        limit = RESTART_LIMIT if worker.is_idle(self._layout) else 0
        worker.ensure_running(self._layout)
        return limit

    def _started(self, *, registered: bool) -> bool:
        state = worker.observe(self._layout)
        ready = state.registered if registered else state.healthy
        return state.unit == "failed" or (state.up_to_date and ready)
