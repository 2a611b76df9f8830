"""The web's half of a reconcile: keys, database, service, workers' keys, what workers are told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from certificates import TlsTrouble
from concourse import api, authorized, schema, sslmode, web, web_keys
from concourse.authorized import Authorized
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from concourse.web import Postgres, Tls, WebSecrets, WebState, WebWish
from concourse.web_environment import TSA_PORT
from database import Database
from desired import Wish
from host import Layout, wait_until
from juju import Juju
from web_desired import METRICS_PORT, WebSide

log = logging.getLogger(__name__)

START_LIMIT = 60.0  # seconds; a first start migrates the database


@dataclass(frozen=True)
class WebSeen:
    """What was observed of the web.

    Attributes:
        state: the service and its API.
        workers: how many workers it has; -1 if it can't be asked.
        untagged: how many of them take steps without tags.
    """

    state: WebState
    workers: int = -1
    untagged: int = -1


class WebWorkload:
    """A unit's Concourse web.

    Args:
        layout: where everything lies.
        progress: called with a short sentence while something long runs.
    """

    def __init__(self, layout: Layout, progress: Callable[[str], None]) -> None:
        self._layout = layout
        self._progress = progress

    def ensure(
        self, wish: Wish, juju: Juju, tree: Path, own: Mapping[str, str], *, everybody: bool
    ) -> WebSecrets | None:
        """Do what is missing between the machine and the wish for a web.

        Args:
            wish: what the operator wants, with a web side.
            juju: the model.
            tree: the release that /opt/concourse leads to.
            own: the keys of the worker on this unit, by name, if there is one.
            everybody: read every related worker's key again, one relation read each; without
                it those stay that are let in already, but for the departed.

        Returns:
            What all web units share; None where no web runs, or the leader hasn't made it.
        """
        side = wish.web_side
        if wish.mode != "worker":
            juju.request_database()
        if side is None:
            if wish.mode == "auto" and juju.leads:  # another unit runs the web
                juju.secrets(lambda: web_keys.generate(self._layout, tree))
            return None
        juju.request_certificate()
        secrets = juju.secrets(lambda: web_keys.generate(self._layout, tree))
        if secrets is None or not isinstance(side.database, Database):
            return secrets  # the status says what is missing
        tls = web.kept_tls(self._layout) if isinstance(side.tls, TlsTrouble) else side.tls
        if side.tls and tls is None and not WebPaths(self._layout).environment.exists():
            return secrets  # one that serves http goes on with it, but none begins with it
        wanted = _web_wish(wish, side, side.database, secrets, tls)
        web.ensure_files(self._layout, wanted, tree)
        if not side.migrated:  # no web of this application has run yet
            schema.require_known(self._layout, tree)
        let_in = self._let_in(juju, own, everybody=everybody)
        if web.ensure_running(self._layout):
            self._progress("Starting the Concourse web")
            wait_until(self._started, timeout=START_LIMIT, interval=0.5)
        web.ensure_reread(self._layout)
        juju.open_ports(*side.ports)
        state = web.observe(self._layout)
        if state.answers and state.address:
            host_key = web_keys.public_host_key(secrets.tsa_host_key)
            juju.publish_web(TSA_PORT, host_key, state.version)
            juju.note_migrated(state.version)
            self.forget_retired(state.address, side, secrets, let_in.leaving)
        return secrets

    def _let_in(self, juju: Juju, own: Mapping[str, str], *, everybody: bool) -> Authorized:
        if everybody or not WebPaths(self._layout).authorized_keys.exists():
            return authorized.ensure(self._layout, {**juju.workers(), **own}, now=time.time())
        return authorized.update(self._layout, joined=own, now=time.time())

    def admit(self, joined: Mapping[str, str], left: tuple[str, ...] = ()) -> bool:
        """Let one worker in or out, without reading the others; False if no web runs here."""
        if not WebPaths(self._layout).authorized_keys.exists():
            return False
        authorized.update(self._layout, joined=joined, left=left, now=time.time())
        web.ensure_reread(self._layout)
        return True

    def forget_retired(
        self, where: api.Address, side: WebSide, secrets: WebSecrets, leaving: Collection[str]
    ) -> None:
        """Let the keys go of departed workers that have retired, before their time is over.

        Args:
            where: where the web answers.
            side: how the web is to run.
            secrets: what all web units share.
            leaving: the departed workers whose key is still there.
        """
        if not leaving:
            return
        try:
            found = api.workers(where, side.admin_user, secrets.admin_password)
        except ConcourseError as error:
            log.info("Departed workers keep their keys for now: %s", error)
            return
        gone = set(leaving) - {worker.name for worker in found}
        if authorized.update(self._layout, now=time.time(), unregistered=gone).changed:
            web.ensure_reread(self._layout)

    def answers(self) -> bool:
        """Return whether the web runs and its API answers."""
        return web.observe(self._layout).answers

    def observe(self, side: WebSide | None) -> WebSeen:
        """Look at the web, and ask it for its workers; changes nothing."""
        state = web.observe(self._layout)
        if not state.answers or not state.address or side is None or side.secrets is None:
            return WebSeen(state)
        try:
            password = side.secrets.admin_password
            found = api.workers(state.address, side.admin_user, password)
        except ConcourseError:
            return WebSeen(state)
        running = [worker for worker in found if worker.state == "running"]
        return WebSeen(state, len(running), sum(not worker.tags for worker in running))

    def _started(self) -> bool:
        state = web.observe(self._layout)
        return state.unit == "failed" or (state.up_to_date and state.answers)


def _web_wish(
    wish: Wish, side: WebSide, database: Database, secrets: WebSecrets, tls: Tls | None
) -> WebWish:
    mode = sslmode.settle(database.sslmode, database.host, database.port)
    if mode is None:
        where = f"{database.host}:{database.port}"
        raise ConcourseError(f"the database at {where} does not answer", retry=True)
    return WebWish(
        external_url=side.url(tls=tls is not None),
        port=side.port,
        peer_address=side.address,
        cluster_name=wish.app,
        postgres=Postgres(
            database.host,
            database.port,
            database.user,
            database.password,
            database.name,
            database.ca,
            mode,
        ),
        secrets=secrets,
        encrypted=side.encrypted,
        admin_user=side.admin_user,
        extra=side.extra,
        placement=side.placement,
        max_active_tasks_per_worker=side.limits[0],
        max_active_containers_per_worker=side.limits[1],
        max_active_volumes_per_worker=side.limits[2],
        metrics=("0.0.0.0", METRICS_PORT) if side.metrics else None,  # noqa: S104 - scraped
        tls=tls,
        log_level=wish.log_level,
        proxies=wish.proxies,
    )
