"""The part of the play in which another revision of the charm takes over: `juju refresh`."""

from __future__ import annotations

from pathlib import Path

from .containers import devices, running
from .juju import defaults
from .machine import MachineError
from .stage import Stage

_TASK = "a-task-meanwhile"
_STAMP = "sed -n 's/^CHARM_STAMP=//p' /etc/concourse/worker.env"
_PID = "systemctl show -p MainPID --value concourse-worker"


def refresh(stage: Stage, charm: Path) -> None:
    """Refresh the unit to another charm while a task runs; what runs goes on.

    Args:
        stage: the play, its worker ready.
        charm: the unpacked charm that takes over.
    """
    stage.screen.part("juju refresh worker, while a task runs")
    with running(stage.machine, _TASK, task=True):
        stamp, process, task = _look(stage, _STAMP), _look(stage, _PID), _task(stage)
        stage.unit.refresh(charm)
        new = defaults((charm / "config.yaml").read_text())
        stage.unit.model.config = {**new, **stage.unit.model.config}
        stage.hook("upgrade-charm")
        stage.hook("config-changed")  # Juju sends it after every upgrade
        if stage.status != ("active", stage.choice.ready):
            stage.hook("update-status")
        stage.screen.check(
            stage.status == ("active", stage.choice.ready),
            f"active, {stage.choice.ready}",
            "  ".join(stage.status),
        )
        stage.screen.check(_task(stage) == task, "the task's process is the same")
        stage.screen.check(_sees(stage), "the task still has its GPUs")
        restarted = _look(stage, _PID) != process
        needed = _look(stage, _STAMP) != stamp
        what = "restarted, as its settings are others" if restarted else "not restarted"
        stage.screen.check(restarted == needed, f"the worker was {what}")
        stage.summary.append(f"juju refresh from {stage.choice.refresh_from}: worker {what}")


def _look(stage: Stage, script: str) -> str:
    return stage.machine.shell(script).strip()


def _task(stage: Stage) -> str:
    """Return the process id of the task's container."""
    return _look(stage, "cat /run/containerd/io.containerd.runtime.v2.task/concourse/"
                 f"{_TASK}/init.pid")  # fmt: skip


def _sees(stage: Stage) -> bool:
    try:
        nodes = devices(stage.machine, _TASK)
    except MachineError as error:
        stage.screen.plain(str(error))
        return False
    return {f"nvidia{index}" for index in range(stage.choice.gpus)} <= set(nodes)
