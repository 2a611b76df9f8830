"""The machines that a rehearsal can be asked for, and what the charm must say on each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .standins.gpu import DRIVER, OLDER_DRIVER, Hardware
from .standins.release import VERSION

LXD_NAME = "juju-5a4d1e-0"
METAL_NAME = "gpu-worker-0"
# What `juju refresh` is rehearsed from: the first revision that was whole.
EARLIER = "2e8fd0bcc5a70db1b5e3529bf95b23959121029c"


@dataclass(frozen=True)
class Choice:
    """What a rehearsal is asked for.

    Attributes:
        gpus: how many GPUs the machine has.
        lxd: whether it is an LXD container.
        driver: whether a kernel driver is loaded.
        passed: whether the GPUs are passed through (LXD).
        mismatch: whether the libraries are of another version than the module.
        toolkit: a folder of NVIDIA's own packages to use; None for the stand-ins.
        concourse: a Concourse release to use; None for the stand-in.
        version: that release's version.
        charm: the charm to run, a folder or a packed one; None to assemble it.
        keep: leave a shell in the machine once the worker is ready.
        deployment: web, workers and PostgreSQL instead of a worker alone.
        refresh_from: the commit whose charm is deployed first, then refreshed; "" for none.
    """

    gpus: int = 1
    lxd: bool = False
    driver: bool = True
    passed: bool = True
    mismatch: bool = False
    toolkit: Path | None = None
    concourse: Path | None = None
    version: str = VERSION
    charm: Path | None = None
    keep: bool = False
    deployment: bool = False
    refresh_from: str = ""

    @property
    def hostname(self) -> str:
        return LXD_NAME if self.lxd else METAL_NAME

    @property
    def hardware(self) -> Hardware:
        """Return the machine's hardware at the start of the play."""
        loaded = DRIVER if self.driver and self.gpus else ""
        place = "lxd" if self.lxd else "metal"
        return Hardware(self.gpus, loaded, passed=self.passed and self.driver, place=place)

    @property
    def mended(self) -> Hardware:
        """Return the hardware after the operator has done what the status asks for."""
        return replace(self.hardware, driver=DRIVER, passed=True)

    @property
    def libraries(self) -> str:
        """Return the version of the driver's libraries that are there from the start, or ""."""
        return OLDER_DRIVER if self.mismatch else ""

    @property
    def ready(self) -> str:
        """Return the status of a worker whose GPUs are usable."""
        return f"Worker ready (GPU: {self.gpus}x NVIDIA)"

    @property
    def trouble(self) -> tuple[str, ...]:
        """Return what the blocked status must name; nothing if the GPUs are usable."""
        if not self.gpus:
            return ("No NVIDIA GPU",)
        if not self.driver:
            return ("driver", "sudo apt install nvidia-driver-", "reboot")
        if not self.passed:
            return (f"lxc config device add {LXD_NAME} gpu0 gpu",)
        if self.mismatch:
            return (DRIVER, OLDER_DRIVER, "sudo apt install" if self.lxd else "reboot")
        return ()
