"""Which GPUs tasks may use, how they may call them, and the worker's tags."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A thing that a task can be given: a GPU, or a MIG device of one.

    Attributes:
        id: "0", or "0:1" for a MIG device.
        uuid: in full.
        name: the product or the MIG profile.
    """

    id: str
    uuid: str
    name: str


@dataclass(frozen=True)
class DeviceRequest:
    """The option gpu-device-ids, read.

    Attributes:
        everything: whether it says "all".
        wanted: indices, MIG ids and UUIDs, normalised, without duplicates.
    """

    everything: bool = True
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """What of this machine's devices the option chose.

    Attributes:
        chosen: the devices, in the machine's order.
        allowed: their UUIDs; what a task gets that asks for "all" or for nothing.
        spellings: (what a task may write, UUID): ids and UUIDs of the chosen.
        subset: whether the machine has devices that were not chosen.
        missing: what was asked for and is not here.
    """

    chosen: tuple[Device, ...] = ()
    allowed: tuple[str, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()
    subset: bool = False
    missing: tuple[str, ...] = ()
