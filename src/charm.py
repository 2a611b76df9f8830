#!/usr/bin/env python3
"""A Concourse worker on a machine, with the machine's NVIDIA GPUs for its tasks.

Observes Juju's events, reconciles, hands over: everything else is below.
"""

from __future__ import annotations

import logging

import ops

import desired
import tsa
from actions import gpu_status, verify_gpu
from desired import InvalidOption, Wish
from host import Layout
from status import unit_status
from workload import Workload

log = logging.getLogger(__name__)

# The operator changed something, so what failed before deserves a try at once.
_CHANGES = (ops.ConfigChangedEvent, ops.UpgradeCharmEvent, ops.ActionEvent)


class ConcourseCharm(ops.CharmBase):
    """Runs a Concourse worker."""

    layout = Layout()

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._workload = Workload(self.layout, self._progress)
        tsa_events = self.on[desired.TSA_RELATION]
        for event in (
            self.on.install,
            self.on.start,
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.update_status,
            self.on.leader_elected,
            tsa_events.relation_created,
            tsa_events.relation_joined,
            tsa_events.relation_changed,
            tsa_events.relation_departed,
            tsa_events.relation_broken,
        ):
            framework.observe(event, self._on_change)
        framework.observe(self.on.stop, self._on_stop)
        framework.observe(self.on.remove, self._on_stop)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)
        framework.observe(self.on.gpu_status_action, self._on_gpu_status)
        framework.observe(self.on.verify_gpu_action, self._on_verify_gpu)
        framework.observe(self.on.retry_gpu_action, self._on_retry_gpu)

    def _on_change(self, event: ops.EventBase) -> None:
        try:
            wish = desired.read(self)
        except InvalidOption as error:
            log.error("%s", error)
            return  # nothing is changed on a misunderstanding; the status says why
        if wish.mode != "worker":
            return
        self._workload.reconcile(
            wish,
            lambda key: self._publish_key(wish, key),
            at_once=isinstance(event, _CHANGES),
        )
        current = self._workload.observe(wish).version
        if current:
            self.unit.set_workload_version(current)

    def _on_stop(self, _: ops.EventBase) -> None:
        self._workload.remove()

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        try:
            wish = desired.read(self)
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

    def _wish_or_fail(self, event: ops.ActionEvent) -> Wish | None:
        try:
            return desired.read(self)
        except InvalidOption as error:
            event.fail(str(error))
            return None

    def _status_line(self) -> str:
        try:
            wish = desired.read(self)
        except InvalidOption as error:
            return str(error)
        return unit_status(wish, self._workload.observe(wish)).message

    def _publish_key(self, wish: Wish, key: str) -> bool:
        relation = desired.web_relation(self)
        if relation is None:
            return False
        return not tsa.publish_worker(relation, self.unit, wish.worker_name, key)

    def _progress(self, text: str) -> None:
        self.unit.status = ops.MaintenanceStatus(text)


if __name__ == "__main__":
    ops.main(ConcourseCharm)
