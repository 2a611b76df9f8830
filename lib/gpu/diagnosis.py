"""From what was seen to one sentence: is the GPU usable, and if not, what cures it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Finding(Enum):
    """What an inventory amounts to."""

    READY = "ready"
    NO_GPU = "no-gpu"
    GIVEN_AWAY = "given-away"
    NO_DRIVER = "no-driver"
    DRIVER_NOT_LOADED = "driver-not-loaded"
    NOT_PASSED_THROUGH = "not-passed-through"
    VERSION_MISMATCH = "version-mismatch"
    NO_SMI = "no-smi"
    LIBRARY_MISSING = "library-missing"
    SMI_HUNG = "smi-hung"
    LOST = "lost"
    SMI_FAILED = "smi-failed"
    NODES_MISSING = "nodes-missing"
    NODES_UNREADABLE = "nodes-unreadable"
    MIG_EMPTY = "mig-empty"


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on one look.

    Attributes:
        finding: what it is.
        message: one sentence for the status, remedy included, 150 characters at most;
            for READY it is empty.
        note: with READY, what is wrong all the same (a lost neighbour, a warning), or empty.
        can_set_up: whether installing packages and the runtime chain makes sense.
    """

    finding: Finding
    message: str = ""
    note: str = ""
    can_set_up: bool = False
