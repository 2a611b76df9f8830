"""A fault: something wrong with a worker's machine, and what the charm has to make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.chaos.causes import Cause, Site
from tests.chaos.creating import ABSENT, GPU, PLAIN

Check = Callable[[Site], None]
ACTIVE, WAITING, BLOCKED = "active", "waiting", "blocked"
READY = r"Worker ready \(GPU: 1x NVIDIA\)"
# In seconds, beside the time limits that a fault has the charm reach (`scaled`): a hook that has
# little to do takes one to three, one that installs packages four to six, on two processors with
# other work beside two or three times that.
HOOK, INSTALLS = 12.0, 25.0


@dataclass(frozen=True)
class Fault:
    """Something wrong, and what the charm has to make of it.

    Attributes:
        word: the unit's status while it lasts: active, waiting or blocked.
        said: its message, as a pattern of all of it.
        cause: what goes wrong, for as long as the fault lasts.
        options: what the operator changes meanwhile; the unit is told.  @version is the
            related web's.
        hooks: how many hooks until it says so.
        bare: whether NVIDIA's packages have yet to be installed.
        limit: what a hook may take, in seconds.
        asking: what comes of a task's container that asks for a GPU, see `creating`.
        docker: what comes of a container of Docker's.
        spares: whether what goes wrong isn't config.toml itself.
        unasked: whether update-status alone has to set the GPU up once it is over.
        check: what else has to hold while it lasts.
    """

    name: str
    word: str
    said: str
    cause: Cause
    options: Mapping[str, object] = field(default_factory=dict)
    hooks: int = 1
    bare: bool = False
    limit: float = HOOK
    asking: str = GPU
    docker: str = GPU
    spares: bool = True
    unasked: bool = False
    check: Check = lambda _: None

    def __str__(self) -> str:
        return self.name


def bare(
    name: str,
    word: str,
    said: str,
    cause: Cause,
    options: Mapping[str, object] | None = None,
    *,
    limit: float = INSTALLS,
    unasked: bool = False,
) -> Fault:
    """Return a fault that keeps the toolkit from being installed: the GPU isn't set up yet."""
    return Fault(
        name,
        word,
        said,
        cause,
        options or {},
        bare=True,
        limit=limit,
        asking=PLAIN,
        docker=ABSENT,
        unasked=unasked,
    )
