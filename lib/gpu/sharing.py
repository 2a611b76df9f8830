"""How tasks share a worker's GPUs: the options gpu-sharing and gpu-lease-timeout, read."""

from __future__ import annotations

from dataclasses import dataclass

from gpu.selection import shown

SHARING_OPTION = "gpu-sharing"
TIMEOUT_OPTION = "gpu-lease-timeout"
MODES = ("shared", "balanced", "exclusive")
# Seconds.  A web gives a worker five minutes to create a container (v8.3.0, garden-request-timeout
# on the web, containerd's request-timeout on the worker); what else a create takes fits behind it.
LONGEST = 240


@dataclass(frozen=True)
class Sharing:
    """How tasks share GPUs.

    Attributes:
        mode: "shared", "balanced" or "exclusive".
        timeout: seconds that a task waits for GPUs which others hold.
    """

    mode: str = "shared"
    timeout: int = 60

    def default(self, tags: tuple[str, ...]) -> str:
        """Return what a task gets that asks for nothing: "all" or a number of GPUs.

        Args:
            tags: the worker's; without any it takes every step, and few of them mean a GPU.
        """
        if self.mode == "shared":
            return "all"
        return "1" if self.mode == "balanced" or tags else "0"


def parse(mode: str, timeout: int) -> Sharing:
    """Read the two options.

    Raises:
        ValueError: a sentence with the option, the value and what is allowed.
    """
    if mode not in MODES:
        raise ValueError(f"{SHARING_OPTION}={shown(mode)} is not one of: {', '.join(MODES)}")
    if not 0 <= timeout <= LONGEST:
        raise ValueError(
            f"{TIMEOUT_OPTION}={timeout} is not a number from 0 to {LONGEST} (seconds)"
        )
    return Sharing(mode, timeout)
