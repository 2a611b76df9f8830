"""What the charm and the GPU rooms tell each other: the wish, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpu.selection import DeviceRequest
from gpu.sharing import Sharing
from gpu.toolkit import ToolkitWish


@dataclass(frozen=True)
class GpuWish:
    """What the operator wants of the GPUs.

    Attributes:
        request: the parsed gpu-device-ids.
        capabilities: the normalised gpu-driver-capabilities.
        tags: the gpu-worker-tags option as it was given.
        mode: the deployment mode, which decides what "auto" tags are.
        toolkit: where nvidia-container-toolkit comes from, and which version.
        proxies: http_proxy, https_proxy, no_proxy.
        sharing: how tasks share the GPUs.
    """

    request: DeviceRequest
    capabilities: str
    tags: str
    mode: str
    toolkit: ToolkitWish
    proxies: Mapping[str, str] = field(default_factory=dict)
    sharing: Sharing = field(default_factory=Sharing)

    @property
    def spelled(self) -> str:
        """The part of the wish that decides what the worker offers, as one string."""
        return f"{self.request} {self.tags} {self.mode}"


@dataclass(frozen=True)
class GpuState:
    """What was observed about the GPUs, as far as anybody above needs it.

    Attributes:
        count: GPUs (or MIG devices) that tasks of this worker can use.
        tags: the tags that the worker carries because of them.
        trouble: why there are none, one sentence with the remedy; "" if there are some.
        waiting: the trouble is expected to end by a retry, without the operator.
        note: what failed although the GPUs are usable (a change of the toolkit's version).
        sharing: "shared", "balanced" or "exclusive", as the wrapper is told.
    """

    count: int = 0
    tags: tuple[str, ...] = ()
    trouble: str = ""
    waiting: bool = False
    note: str = ""
    sharing: str = "shared"
