"""What brings about the files of a deployment that are only there at times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rehearsal.standins import gpu, release
from tests.chaos.whole import APP, UNIT, Deployment

MEMORY = "/var/lib/concourse-ci-machine"
SECOND, SECOND_MACHINE = "one/1", "all-1"
KEYRINGS = "/usr/share/keyrings"
DRIVERS_PIN = "/etc/apt/preferences.d/concourse-ci-machine-nvidia-driver"


def another_look_at_the_gpus(deployment: Deployment) -> None:
    """A GPU more is seen once."""
    hardware = replace(deployment.stage.choice.hardware, count=2)
    gpu.plug(deployment.machine, hardware)
    deployment.stage.update(UNIT)


def a_failure(deployment: Deployment) -> None:
    """A version is asked for that the repository doesn't have."""
    deployment.stage.configure(APP, nvidia_toolkit_version="9.9.9")
    deployment.stage.settle()


def somebodys_file(deployment: Deployment) -> None:
    """Somebody's own file lies where the well-known link belongs."""
    deployment.machine.shell(
        "cd /usr/local/bin; rm runc-gpu-wrapper; echo '#!/bin/sh' >runc-gpu-wrapper"
    )
    deployment.stage.update(UNIT)


def somebodys_key(deployment: Deployment) -> None:
    """Somebody's own key lies in the usual place when the GPU is set up."""
    stage, machine = deployment.stage, deployment.machine
    stage.configure(APP, enable_gpu=False)
    stage.settle()
    machine.shell(
        f"cd {KEYRINGS}; cp debian-archive-keyring.gpg nvidia-container-toolkit-keyring.gpg"
    )
    stage.configure(APP, enable_gpu=True)
    stage.settle()


def a_unit_in_a_container(deployment: Deployment) -> None:
    stage = deployment.stage
    stage.prepare(SECOND_MACHINE, replace(stage.choice.hardware, place="lxd"))
    stage.add_unit(SECOND, SECOND_MACHINE, deployment.unit.model.config)
    stage.settle()


def a_restart_of_both(deployment: Deployment) -> None:
    """Both would restart; the second one leaves then."""
    deployment.stage.configure(APP, log_level="debug")
    deployment.stage.settle()
    deployment.stage.controller.remove_unit(SECOND)
    deployment.stage.settle()


def a_worker_that_leaves(deployment: Deployment) -> None:
    """The web is told that a worker of another application goes, which then retires."""
    stage, controller = deployment.stage, deployment.stage.controller
    stage.deploy("others", SECOND_MACHINE, deployment_mode="worker")
    stage.relate(f"{APP}:web-tsa", "others:worker-tsa")
    stage.settle()
    controller.remove_unit("others/0")
    goes = [one for one in controller.pending(controller.agents[UNIT]) if one.kind == "departed"]
    controller.run(goes[0])


def a_new_certificate(deployment: Deployment) -> None:
    deployment.authority.renew()
    deployment.stage.answer_all()
    deployment.stage.settle()


def a_download_that_is_kept(deployment: Deployment) -> None:
    """A release has another checksum than the operator gives, and may be right all the same."""
    next(iter(deployment.stage.sites.values())).supplies.offer_release(release.NEXT_VERSION)
    deployment.stage.configure(
        APP, concourse_version=release.NEXT_VERSION, concourse_sha256="0" * 64
    )
    deployment.stage.settle()


def drained(deployment: Deployment) -> None:
    deployment.stage.action(UNIT, "drain")


def restarted(deployment: Deployment) -> None:
    deployment.stage.action(UNIT, "restart-services", force=False)


# Each on what the ones before have left; who is on the way down isn't told anything.
MOMENTS: dict[str, Callable[[Deployment], None]] = {
    f"{MEMORY}/web-signalled": a_new_certificate,
    f"{MEMORY}/kept": somebodys_file,
    f"{MEMORY}/restart": restarted,
    f"{KEYRINGS}/concourse-ci-machine-nvidia.gpg": somebodys_key,
    DRIVERS_PIN: a_unit_in_a_container,
    f"{MEMORY}/turns.json": a_restart_of_both,
    f"{MEMORY}/departed-workers.json": a_worker_that_leaves,
    f"{MEMORY}/gpu/offer-pending.json": another_look_at_the_gpus,
    f"{MEMORY}/attempts.json": a_failure,
    f"{MEMORY}/downloads": a_download_that_is_kept,
    f"{MEMORY}/drained": drained,
}
# The unit on whose machine a file is, where it isn't the first one's.
ELSEWHERE = {DRIVERS_PIN: SECOND}
