"""Which GPUs tasks may use, how tasks may name them, and the worker's tags.

Only UUIDs that nvidia-smi gave ever leave this room as devices: what operators
write is compared with them and never passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpu.inventory import Gpu, GpuInventory

DEVICES_OPTION = "gpu-device-ids"
CAPABILITIES_OPTION = "gpu-driver-capabilities"
TAGS_OPTION = "gpu-worker-tags"

# internal/config/image/capabilities.go of nvidia-container-toolkit 1.20.0
CAPABILITIES = ("compute", "compat32", "graphics", "utility", "video", "display", "ngx")

_HEX = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_INDEX = r"(?:0|[1-9][0-9]{0,2})(?::(?:0|[1-9][0-9]{0,2}))?"
_ID = re.compile(f"{_INDEX}|GPU-{_HEX}|MIG-(?:{_HEX}|GPU-{_HEX}/[0-9]{{1,3}}/[0-9]{{1,3}})")
_UUID_PREFIX = re.compile(r"(?:mig-)?gpu-|mig-")
# Tags go through an environment file and a comma-separated variable, and into pipelines.
_TAG = re.compile(r"[A-Za-z0-9._=+:/@~-]{1,64}")
_MOST = 128  # entries of a list
_LONGEST = 150  # characters of a sentence in `juju status`


@dataclass(frozen=True)
class Device:
    """A thing that a task can be given: a GPU, or a MIG device of one.

    Attributes:
        id: "0", or "0:1" for a MIG device.
        uuid: in full.
        name: the product or the MIG profile.
        parents: by what else the operator may choose it: index and UUID of a MIG device's GPU.
    """

    id: str
    uuid: str
    name: str
    parents: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Everything by which gpu-device-ids may choose it."""
        return frozenset((self.id, self.uuid, *self.parents))


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
        spellings: (what a task may write, UUID): id and UUID of each that is chosen.  Always
            one UUID: a GPU in MIG mode can't be asked for by its own index.
        subset: whether the machine has devices that were not chosen.
        missing: what was asked for and is not here.
    """

    chosen: tuple[Device, ...] = ()
    allowed: tuple[str, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()
    subset: bool = False
    missing: tuple[str, ...] = ()


def parse(value: str) -> DeviceRequest:
    """Read gpu-device-ids: "all", or a comma-separated list.

    An entry is an index ("0"), a MIG device ("0:1"), or a full UUID (GPU-… or MIG-…, in
    either case).  Blanks around entries are taken off; duplicates count once.

    Raises:
        ValueError: a sentence with the option, the value and what is allowed.
    """
    if value.strip(" ").lower() == "all":
        return DeviceRequest()
    entries = [_normal(entry) for entry in value.split(",")]
    if len(entries) > _MOST or not all(_ID.fullmatch(entry) for entry in entries):
        raise ValueError(
            f"{DEVICES_OPTION}={shown(value)} is no list of devices: use all, or indices, MIG ids "
            "(0:1) and full UUIDs, separated by commas"
        )
    return DeviceRequest(everything=False, wanted=tuple(dict.fromkeys(entries)))


def devices(inventory: GpuInventory) -> tuple[Device, ...]:
    """Return what tasks of this machine could be given, MIG devices in place of their GPU."""
    return tuple(device for gpu in inventory.gpus for device in _devices(gpu))


def select(inventory: GpuInventory, request: DeviceRequest) -> Selection:
    """Choose those of the request that are here.

    The index or UUID of a GPU in MIG mode chooses all its MIG devices.
    """
    here = devices(inventory)
    wanted = frozenset(request.wanted)
    chosen = tuple(each for each in here if request.everything or each.names & wanted)
    known = frozenset(name for device in here for name in device.names)
    return Selection(
        chosen=chosen,
        allowed=tuple(device.uuid for device in chosen),
        spellings=tuple((name, each.uuid) for each in chosen for name in (each.id, each.uuid)),
        subset=len(chosen) < len(here),
        missing=tuple(name for name in request.wanted if name not in known),
    )


def nothing_here(inventory: GpuInventory, request: DeviceRequest) -> str:
    """Return the sentence for a request that has nothing on this machine: what is here."""
    asked = "all" if request.everything else ",".join(request.wanted)
    head = f"{DEVICES_OPTION}={shown(asked, 48)} names no GPU of this machine"
    here = [f"{device.id} ({device.uuid[:12]}…)" for device in devices(inventory)]
    if not here:
        return f"{head}: it has none"
    text = f"{head}; here: {', '.join(here)}"
    while len(text) > _LONGEST and len(here) > 1:
        here.pop()
        text = f"{head}; here: {', '.join(here)} and more"
    return text


def parse_capabilities(value: str) -> str:
    """Read gpu-driver-capabilities: "all", or a comma-separated list; returned normalised.

    Raises:
        ValueError: a sentence with the option, the value and what is allowed.
    """
    entries = [entry.strip(" ").lower() for entry in value.split(",")]
    if entries == ["all"]:
        return "all"
    if not all(entry in CAPABILITIES for entry in entries):
        raise ValueError(
            f"{CAPABILITIES_OPTION}={shown(value)}: use all, or a list of {', '.join(CAPABILITIES)}"
        )
    return ",".join(name for name in CAPABILITIES if name in entries)


def tags(option: str, selection: Selection, mode: str) -> tuple[str, ...]:
    """Return the tags that a worker gets for its GPUs; none while it has no GPU.

    Args:
        option: gpu-worker-tags: "auto", "none", or a list of the operator's own.
        selection: the GPUs.
        mode: the deployment mode; "auto" tags only a "worker", because where every worker is
            tagged, untagged steps (all checks and gets) have nowhere to run.

    Raises:
        ValueError: a sentence with the option, the value and what is allowed.
    """
    own = parse_tags(option)
    if not selection.chosen or option.strip(" ") == "none":
        return ()
    if own:
        return own
    if mode != "worker":
        return ()
    listed = (f"gpu-devices={'+'.join(device.id for device in selection.chosen)}",)
    count = f"gpu-count={len(selection.chosen)}"
    return ("gpu", "gpu-type=nvidia", count, *(listed if selection.subset else ()))


def parse_tags(option: str) -> tuple[str, ...]:
    """Read gpu-worker-tags; returns the operator's own tags, () for "auto" and "none".

    Raises:
        ValueError: a sentence with the option, the value and what is allowed.
    """
    entries = [entry.strip(" ") for entry in option.split(",")]
    if entries in (["auto"], ["none"]):
        return ()
    reserved = {"auto", "none"}.intersection(entries)
    if len(entries) > _MOST or reserved or not all(_TAG.fullmatch(entry) for entry in entries):
        raise ValueError(
            f"{TAGS_OPTION}={shown(option)}: use auto, none, or a list of tags of letters, "
            "digits and ._=+:/@~- (64 at most each)"
        )
    return tuple(dict.fromkeys(entries))


def shown(value: str, longest: int = 32) -> str:
    """Return a value as a sentence may quote it: printable, one line, shortened."""
    clean = "".join(char if char.isprintable() else "?" for char in value[: longest + 1])
    clean = clean if len(clean) <= longest else clean[: longest - 1] + "…"
    return clean or '""'


def _normal(entry: str) -> str:
    """Take blanks off, and put a UUID into the case that nvidia-smi writes."""
    text = entry.strip(" ").lower()
    return _UUID_PREFIX.sub(lambda found: found.group().upper(), text, count=1)


def _devices(gpu: Gpu) -> tuple[Device, ...]:
    if not gpu.mig_on:
        return (Device(str(gpu.index), gpu.uuid, gpu.name),)
    parents = (str(gpu.index), gpu.uuid)
    return tuple(Device(mig.id, mig.uuid, mig.name, parents) for mig in gpu.mig)
