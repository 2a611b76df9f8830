"""Inventories for the tests of the diagnosis: one without a fault, and what makes others of it."""

from __future__ import annotations

from typing import Any

from gpu.inventory import Gpu, GpuInventory, Mig, Place
from tests.unit.gpu_roots import VERSION, gpu_uuid, mig_uuid

METAL = Place("metal", "node-1")
VM = Place("vm", "vm-1")
LXD = Place("lxd", "juju-abc123-0", unprivileged=True)
DOCKER = Place("container", "3f2a")
MIG = Gpu(0, gpu_uuid(0), mig_on=True, mig=(Mig("0:0", mig_uuid(0), "1g.5gb"),))
GOOD = GpuInventory(
    pci=("0000:01:00.0",),
    bound=(("0000:01:00.0", "nvidia"),),
    module=VERSION,
    libraries=(VERSION,),
    control=True,
    uvm=True,
    nodes=("/dev/nvidia0",),
    smi_present=True,
    smi_code=0,
    gpus=(Gpu(0, gpu_uuid(0)),),
    driver=VERSION,
    place=METAL,
)
NO_NODES: dict[str, Any] = {"nodes": (), "control": False, "gpus": (), "smi_code": None}
NO_DRIVER: dict[str, Any] = {**NO_NODES, "module": "", "bound": (), "driver": ""}


def failing(code: int | None, said: str = "", **more: object) -> dict[str, Any]:
    return {"gpus": (), "driver": "", "smi_code": code, "smi_error": said, **more}
