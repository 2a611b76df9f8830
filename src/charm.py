#!/usr/bin/env python3
"""Concourse CI on machines: web, workers, and the machines' NVIDIA GPUs for tasks.

Observes Juju's events, reconciles, hands over: everything else is below.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import ops

import certificates
import database
import desired
import peers
import tsa
from actions import admin_password, gpu_status, services, verify_gpu
from concourse.worker import worker_name
from desired import InvalidOption, Wish
from host import Layout, Trouble
from juju import WEB_RELATION, Juju
from status import unit_status
from turns import Turn
from unit_state import ensure_in_memory
from workload import Workload

log = logging.getLogger(__name__)

_RELATIONS = (desired.TSA_RELATION, peers.RELATION, certificates.RELATION, *database.RELATIONS)
# The operator changed something, so what failed before deserves a try at once.
_CHANGES = (ops.ConfigChangedEvent, ops.UpgradeCharmEvent, ops.ActionEvent)


class ConcourseCharm(ops.CharmBase):
    """Runs a Concourse web, a worker, or both."""

    layout = Layout()
    _told = ops.StoredState()  # type: ignore[no-untyped-call]  # until the next boot: unit_state

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._told.set_default(version="")
        self._stopped = False
        self._certificates = certificates.Certificates(self)
        self._workload = Workload(self.layout, self._progress)
        for event in self._changing_events():
            framework.observe(event, self._on_change)
        workers = self.on[WEB_RELATION]
        for event in (workers.relation_joined, workers.relation_changed):
            framework.observe(event, self._on_worker)
        framework.observe(workers.relation_departed, self._on_worker_gone)
        framework.observe(self.on.stop, self._on_stop)
        framework.observe(self.on.remove, self._on_stop)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)
        framework.observe(self.on.gpu_status_action, self._on_gpu_status)
        framework.observe(self.on.verify_gpu_action, self._on_verify_gpu)
        framework.observe(self.on.retry_gpu_action, self._on_retry_gpu)
        framework.observe(self.on.get_admin_password_action, self._on_get_admin_password)
        framework.observe(self.on.check_status_action, self._on_check_status)
        framework.observe(self.on.restart_services_action, self._on_restart_services)
        framework.observe(self.on.drain_action, self._on_drain)
        framework.observe(self.on.resume_action, self._on_resume)

    def _changing_events(self) -> Iterator[ops.BoundEvent]:
        """Every event that may change the wish, or what can be done about it."""
        on = self.on
        yield from (on.install, on.start, on.config_changed, on.upgrade_charm, on.update_status)
        yield from (on.leader_elected, on.secret_changed)
        for name in _RELATIONS:
            relation = on[name]
            yield from (relation.relation_created, relation.relation_joined)
            yield from (relation.relation_changed, relation.relation_departed)
            yield relation.relation_broken
        yield from (on[WEB_RELATION].relation_created, on[WEB_RELATION].relation_broken)

    def _on_change(self, event: ops.EventBase) -> None:
        peer = _peer(event)
        if peer:
            peers.pass_on_migrated(self, peer)
        try:
            wish = desired.read(self, self._certificates, gone=_gone(event))
        except InvalidOption as error:
            log.error("%s", error)
            return  # nothing is changed on a misunderstanding; the status says why
        if self._is_leaving(event):
            return
        if peer and wish.mode != "auto" and not self.unit.is_leader():
            return  # the leader's business, but for auto, where web and workers meet there
        turn = Turn(self, self.layout, wish.max_unavailable, _gone(event), _heard(event))
        if wish.roles:
            self._reconcile(event, wish, turn)
        if isinstance(event, ops.UpdateStatusEvent):
            turn.renew()
        turn.keep()

    def _reconcile(self, event: ops.EventBase, wish: Wish, turn: Turn) -> None:
        juju = Juju(self, wish.mode, turn, self._certificates)
        self._workload.reconcile(
            wish,
            juju,
            at_once=isinstance(event, _CHANGES),
            everybody=self._asks_everybody(event, wish.mode),
        )
        current = self._workload.version
        if current and current != self._told.version:
            self.unit.set_workload_version(current)
            self._told.version = current

    def _asks_everybody(self, event: ops.EventBase, mode: str) -> bool:
        """Return whether a web reads every worker's key again: not where Juju tells of one."""
        if isinstance(event, ops.UpdateStatusEvent):
            return False
        if not isinstance(event, ops.RelationEvent) or event.relation.name != peers.RELATION:
            return True
        if event.unit is None:
            return True
        if mode == "auto" and isinstance(event, ops.RelationDepartedEvent):
            self._workload.web.admit({}, left=(worker_name(event.unit.name),))
        elif mode == "auto" and (said := tsa.worker(event.relation.data[event.unit])):
            self._workload.web.admit(dict([said]))
        return False

    def _is_leaving(self, event: ops.EventBase) -> bool:
        """Return whether this unit is going: it takes on nothing new, and stops soon."""
        return isinstance(event, ops.RelationDepartedEvent) and event.departing_unit == self.unit

    def _on_worker(self, event: ops.RelationEvent) -> None:
        """Let one worker in: one read, however many there are."""
        said = tsa.worker(event.relation.data[event.unit]) if event.unit else None
        if said and not self._workload.web.admit(dict([said])):
            self._on_change(event)

    def _on_worker_gone(self, event: ops.RelationDepartedEvent) -> None:
        """Let a departed worker's key go, once it has retired."""
        said = tsa.worker(event.relation.data[event.unit]) if event.unit else None
        if said:
            self._workload.web.admit({}, left=(said[0],))

    def _on_stop(self, _: ops.EventBase) -> None:
        self._workload.remove()
        self._stopped = True

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        if self._stopped and not self._workload.version:
            event.add_status(ops.MaintenanceStatus("Concourse is removed from this machine"))
            return
        try:
            wish = desired.read(self, self._certificates)
        except InvalidOption as error:
            event.add_status(ops.BlockedStatus(str(error)))
            return
        event.add_status(unit_status(wish, self._workload.observe(wish)))

    def _on_gpu_status(self, event: ops.ActionEvent) -> None:
        event.set_results(gpu_status(self.layout, self._workload.gpu))

    def _on_verify_gpu(self, event: ops.ActionEvent) -> None:
        verdict = verify_gpu(self.layout, self._status_line())
        event.set_results(verdict.results)
        if verdict.failed:
            event.fail(verdict.summary)

    def _on_retry_gpu(self, event: ops.ActionEvent) -> None:
        wish = self._wish_or_fail(event)
        if wish is None:
            return
        if wish.gpu is None:
            event.fail(wish.gpu_error or "enable-gpu is false: set it to true first")
            return
        self._on_change(event)
        event.set_results({"status": self._status_line()})

    def _on_get_admin_password(self, event: ops.ActionEvent) -> None:
        wish = self._wish_or_fail(event)
        if wish is None:
            return
        results = admin_password(wish.web_side) if wish.web_side else {}
        if not results:
            event.fail("no web runs on this unit, or its password is not made yet")
            return
        event.set_results(results)

    def _on_check_status(self, event: ops.ActionEvent) -> None:
        wish = self._wish_or_fail(event)
        if wish is not None:
            event.set_results(services(wish, self._workload.observe(wish)))

    def _on_restart_services(self, event: ops.ActionEvent) -> None:
        if self._wish_or_fail(event) is None:
            return
        try:
            self._workload.restart(force=bool(event.params["force"]))
        except Trouble as trouble:
            event.fail(str(trouble))
            return
        self._on_change(event)
        event.set_results({"status": self._status_line()})

    def _on_drain(self, event: ops.ActionEvent) -> None:
        wish = self._wish_or_fail(event)
        if wish is None:
            return
        if "worker" not in wish.roles:
            event.fail("no worker runs on this unit")
            return
        try:
            self._workload.worker.drain()
        except Trouble as trouble:
            event.fail(str(trouble))

    def _on_resume(self, event: ops.ActionEvent) -> None:
        if not self._workload.worker.resume():
            event.fail("the worker is not drained")
            return
        self._on_change(event)
        event.set_results({"status": self._status_line()})

    def _wish_or_fail(self, event: ops.ActionEvent) -> Wish | None:
        try:
            return desired.read(self, self._certificates)
        except InvalidOption as error:
            event.fail(str(error))
            return None

    def _status_line(self) -> str:
        try:
            wish = desired.read(self, self._certificates)
        except InvalidOption as error:
            return str(error)
        return unit_status(wish, self._workload.observe(wish)).message

    def _progress(self, text: str) -> None:
        self.unit.status = ops.MaintenanceStatus(text)


def _peer(event: ops.EventBase) -> ops.Unit | None:
    """Return the peer that has said something in its own bag, if it is that event."""
    if isinstance(event, ops.RelationChangedEvent) and event.relation.name == peers.RELATION:
        return event.unit
    return None


def _heard(event: ops.EventBase) -> ops.Unit | None:
    """Return the peer that an event tells of."""
    if isinstance(event, ops.RelationEvent) and event.relation.name == peers.RELATION:
        return event.unit
    return None


def _gone(event: ops.EventBase) -> ops.Unit | None:
    """Return the peer that is on its way out, which Juju may still show."""
    if isinstance(event, ops.RelationDepartedEvent) and event.relation.name == peers.RELATION:
        return event.departing_unit
    return None


if __name__ == "__main__":
    ensure_in_memory(Path(os.environ["JUJU_CHARM_DIR"]), os.environ["JUJU_UNIT_NAME"])
    ops.main(ConcourseCharm)
