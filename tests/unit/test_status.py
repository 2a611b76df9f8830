"""The table of statuses that users see; its ids read as the specification."""

from __future__ import annotations

from dataclasses import replace

import ops
import pytest

from attempts import Attempt
from concourse.release import ReleaseWish
from concourse.worker import WorkerState
from desired import Wish
from gpu.manager import GpuState, GpuWish
from gpu.selection import DeviceRequest
from gpu.toolkit import ToolkitWish
from status import Seen, unit_status
from tsa import Web

WISH = Wish(
    app="worker",
    mode="worker",
    worker_name="worker-0",
    release=ReleaseWish(version="8.3.0", url="https://example.test", sha256="", resource=None),
    log_level="info",
    dns_proxy=False,
    dns_server="",
    baggageclaim_driver="auto",
    related=True,
    web=Web(("10.0.0.2:2222",), "ssh-rsa AAAA"),
)
GPU_WISH = replace(
    WISH,
    gpu=GpuWish(DeviceRequest(), "all", "auto", "worker", ToolkitWish("1.20.0", "", "", {})),
)
RUNNING = WorkerState(
    unit="active", up_to_date=True, healthy=True, registered=True, socket_taken=""
)
SEEN = Seen(version="8.3.0", release=None, service=None, worker=RUNNING, gpu=None)
NO_DRIVER = "GPU here but no driver is loaded: sudo apt install nvidia-driver-580, then reboot"

TABLE = {
    "worker running, no GPU wanted": (WISH, SEEN, ops.ActiveStatus("Worker ready")),
    "one GPU usable": (
        GPU_WISH,
        replace(SEEN, gpu=GpuState(count=1)),
        ops.ActiveStatus("Worker ready (GPU: 1x NVIDIA)"),
    ),
    "four GPUs usable": (
        GPU_WISH,
        replace(SEEN, gpu=GpuState(count=4)),
        ops.ActiveStatus("Worker ready (GPU: 4x NVIDIA)"),
    ),
    "a GPU that only the operator can mend": (
        GPU_WISH,
        replace(SEEN, gpu=GpuState(trouble=NO_DRIVER)),
        ops.BlockedStatus(NO_DRIVER),
    ),
    "apt timed out": (
        GPU_WISH,
        replace(SEEN, gpu=GpuState(trouble="apt-get update timed out", waiting=True)),
        ops.WaitingStatus("apt-get update timed out (will be retried)"),
    ),
    "GPUs usable, a change of the toolkit failed": (
        GPU_WISH,
        replace(SEEN, gpu=GpuState(count=2, note="nvidia-container-toolkit 1.20.1 is not there")),
        ops.WaitingStatus(
            "Worker ready (GPU: 2x NVIDIA), but nvidia-container-toolkit 1.20.1 is not there "
            "(will be retried)"
        ),
    ),
    "a list of GPUs that can't be read says what is here": (
        replace(WISH, gpu_error="gpu-device-ids='x' is no list of devices"),
        replace(SEEN, gpus_here="0, 1"),
        ops.BlockedStatus("gpu-device-ids='x' is no list of devices; here: 0, 1"),
    ),
    "drained on request": (
        WISH,
        replace(SEEN, drained=True, worker=WorkerState("inactive")),
        ops.MaintenanceStatus("Drained: juju run UNIT resume takes it back into service"),
    ),
    "draining on request": (
        WISH,
        replace(SEEN, drained=True, worker=replace(RUNNING, unit="deactivating")),
        ops.MaintenanceStatus("Draining: running builds finish, then the worker stays down"),
    ),
    "a GPU option that can't be read": (
        replace(WISH, gpu_error="gpu-device-ids='x' is not a list"),
        replace(SEEN, gpu=GpuState(count=1)),
        ops.BlockedStatus("gpu-device-ids='x' is not a list"),
    ),
    "GPU switched off but not yet taken back": (
        WISH,
        replace(SEEN, gpu_undo="dpkg is locked"),
        ops.WaitingStatus("Worker ready, GPU set-up not yet removed: dpkg is locked"),
    ),
    "nobody chosen yet with mode auto": (
        replace(WISH, mode="auto", roles=frozenset()),
        SEEN,
        ops.WaitingStatus("Waiting for the leader to choose the unit that runs the web"),
    ),
    "no relation to a web": (
        replace(WISH, related=False, web=None),
        SEEN,
        ops.BlockedStatus("No web: juju relate WEB:web-tsa worker:worker-tsa"),
    ),
    "the web has not published yet": (
        replace(WISH, web=None),
        SEEN,
        ops.WaitingStatus("Waiting for the related web to publish its address and key"),
    ),
    "the web published nonsense": (
        replace(WISH, web=None, web_error="tsa-port is no port: 'x'"),
        SEEN,
        ops.BlockedStatus("The related web's data can't be used: tsa-port is no port: 'x'"),
    ),
    "no release yet": (
        WISH,
        replace(SEEN, version=""),
        ops.MaintenanceStatus("Concourse is not installed yet"),
    ),
    "a download that failed": (
        WISH,
        replace(SEEN, version="", release=Attempt(1, "Concourse 8.3.0: no network", 0)),
        ops.WaitingStatus("Concourse 8.3.0: no network (will be retried)"),
    ),
    "a download with another checksum": (
        WISH,
        replace(SEEN, version="", release=Attempt(1, "checksum differs", 0, retry=False)),
        ops.BlockedStatus("checksum differs"),
    ),
    "an upgrade that failed while the old release runs": (
        replace(WISH, release=replace(WISH.release, version="8.4.0")),
        replace(SEEN, release=Attempt(1, "no network", 0)),
        ops.WaitingStatus("Concourse 8.3.0 runs on, 8.4.0 failed: no network (will be retried)"),
    ),
    "the worker could not be set up": (
        WISH,
        replace(SEEN, service=Attempt(1, "No space left on device", 0)),
        ops.WaitingStatus("No space left on device (will be retried)"),
    ),
    "the socket is Docker's": (
        WISH,
        replace(SEEN, worker=replace(RUNNING, socket_taken="Docker", healthy=False)),
        ops.BlockedStatus(
            "/run/containerd/containerd.sock is taken by Docker: "
            "stop it, or give this worker a machine of its own"
        ),
    ),
    "a restart waits for its turn": (
        replace(WISH, waits=True),
        SEEN,
        ops.WaitingStatus("Worker ready; a restart waits for its turn (max-unavailable=1)"),
    ),
    "another release waits for its turn, on a worker with GPUs": (
        replace(GPU_WISH, waits=True, max_unavailable=3),
        replace(SEEN, gpu=GpuState(count=2)),
        ops.WaitingStatus(
            "Worker ready (GPU: 2x NVIDIA); a restart waits for its turn (max-unavailable=3)"
        ),
    ),
    "what is wrong comes before what waits": (
        replace(GPU_WISH, waits=True),
        replace(SEEN, gpu=GpuState(trouble=NO_DRIVER)),
        ops.BlockedStatus(NO_DRIVER),
    ),
    "draining": (
        WISH,
        replace(SEEN, worker=replace(RUNNING, unit="deactivating")),
        ops.MaintenanceStatus("Draining: running builds finish, then the worker restarts"),
    ),
    "the service failed": (
        WISH,
        replace(SEEN, worker=replace(RUNNING, unit="failed", healthy=False)),
        ops.BlockedStatus("concourse-worker.service failed: see journalctl -u concourse-worker"),
    ),
    "the worker starts": (
        WISH,
        replace(SEEN, worker=replace(RUNNING, unit="activating", healthy=False)),
        ops.WaitingStatus("Worker is starting"),
    ),
    "the worker is not registered": (
        WISH,
        replace(SEEN, worker=replace(RUNNING, registered=False)),
        ops.WaitingStatus(
            "Worker runs but is not registered with the web: see journalctl -u concourse-worker"
        ),
    ),
    "no web hides a GPU trouble": (
        replace(GPU_WISH, related=False, web=None),
        replace(SEEN, gpu=GpuState(trouble=NO_DRIVER)),
        ops.BlockedStatus("No web: juju relate WEB:web-tsa worker:worker-tsa"),
    ),
}


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_status(case: str) -> None:
    wish, seen, expected = TABLE[case]
    assert unit_status(wish, seen) == expected


def test_every_status_fits_a_line() -> None:
    assert all(len(expected.message) <= 150 for _, _, expected in TABLE.values())
