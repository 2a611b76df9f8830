"""What nvidia-smi says: the GPUs, their MIG devices, the CUDA version."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mig:
    """A MIG device: a part of a GPU that counts as a device of its own.

    Attributes:
        id: "GPU index:MIG index", as in "0:1".
        uuid: "MIG-…", in full.
        name: the profile, as in "1g.10gb".
    """

    id: str
    uuid: str
    name: str


@dataclass(frozen=True)
class Gpu:
    """A GPU that nvidia-smi lists and that answers.

    Attributes:
        index: its number for nvidia-smi on this machine.
        uuid: "GPU-…", in full.
        name: the product, as in "NVIDIA A100-SXM4-40GB".
        pci: its address, as in "00000000:2B:00.0"; may be empty.
        memory_mib: its memory in MiB; None where the driver doesn't say.
        mig_on: whether MIG mode is on; then only its MIG devices compute.
        mig: its MIG devices.
    """

    index: int
    uuid: str
    name: str = "NVIDIA GPU"
    pci: str = ""
    memory_mib: int | None = None
    mig_on: bool = False
    mig: tuple[Mig, ...] = ()
