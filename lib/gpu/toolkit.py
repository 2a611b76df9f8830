"""The packages that a GPU worker needs: nvidia-utils, jq, NVIDIA's container toolkit.

What the charm installed it remembers, and follows the wish with it.  What was there
before belongs to the operator: it is left alone, unless it is so old that an image could
take over the machine through it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpu import apt, config_file, dpkg, owned, repository, runtime
from gpu.dpkg import Package
from gpu.driver_tools import order_driver_tools
from gpu.errors import GpuError
from gpu.orders import Order
from gpu.versions import older, upstream
from host import Layout, Trouble

__all__ = [
    "FLOOR",
    "PACKAGES",
    "ToolkitState",
    "ToolkitWish",
    "check",
    "installed",
    "order_driver_tools",
    "order_jq",
    "order_toolkit",
    "prepare",
    "undo",
]

log = logging.getLogger(__name__)

# From 1.18 on each depends on the others by exact version, and apt picks no older
# siblings by itself: all four are named with one version, in one call.
PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
FLOOR = "1.18.2"  # CVE-2025-23266 ends with 1.17.8; NVIDIA_CTK_CONFIG_FILE_PATH begins with 1.18


@dataclass(frozen=True)
class ToolkitWish:
    """Which container toolkit the operator wants, and from where.

    Attributes:
        version: X.Y.Z, or X.Y.Z-REVISION.
        repository_url: the flat apt repository, without the architecture.
        repository_key: the armoured key that signs it; empty for NVIDIA's own.
        proxies: http_proxy, https_proxy, no_proxy.
    """

    version: str
    repository_url: str
    repository_key: str = ""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ToolkitState:
    """What is installed of the container toolkit.

    Attributes:
        version: the oldest version among its packages; empty if one is missing or half done.
        ours: whether the charm installed it.
        held: whether the operator holds any of its packages.
    """

    version: str = ""
    ours: bool = False
    held: bool = False

    @property
    def safe(self) -> bool:
        """Whether it is all there and not below the floor."""
        return bool(self.version) and not older(upstream(self.version), FLOOR)


def installed(layout: Layout) -> ToolkitState:
    """Return what is installed, by one look at dpkg's database.

    Raises:
        GpuError: the database can't be read.
    """
    return _state(layout, dpkg.query(layout, PACKAGES))


def check(wish: ToolkitWish) -> None:
    """Refuse options that can't be followed.

    Raises:
        GpuError: one sentence that names the option.
    """
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){2}(-[0-9]{1,4})?", wish.version):
        raise GpuError(f"nvidia-toolkit-version is no version like 1.20.0: {wish.version[:20]!r}")
    if older(upstream(wish.version), FLOOR):
        raise GpuError(
            f"nvidia-toolkit-version {wish.version} is below the safe floor (CVE-2025-23266)",
            remedy=f"set {FLOOR} or newer",
        )
    repository.check_url(wish.repository_url)
    repository.check_key(wish.repository_key)


def prepare(layout: Layout, wish: ToolkitWish) -> None:
    """Make apt know a new repository before it fetches all lists, so that it is among them."""
    with suppress(Trouble, OSError):  # which is said when the toolkit is ordered
        check(wish)
        if not dpkg.query(layout, PACKAGES):
            _ensure_source(layout, wish)


def order_jq(layout: Layout, progress: Callable[[str], None]) -> Order | None:
    """Return the order for jq, for operators who look into a config.json; None if it is there."""
    if os.access(layout.program("jq"), os.X_OK):
        return None
    _say("Installing jq...", progress)
    return Order("jq", ("jq",), done=lambda: log.info("jq installed"))


def order_toolkit(
    layout: Layout, wish: ToolkitWish, progress: Callable[[str], None]
) -> Order | None:
    """Return what makes a safe toolkit be there, of the wished version if it is the charm's.

    A machine that agrees is left alone: no apt runs, no file is written.  Where somebody
    deleted nvidia-container-runtime, its package is unpacked again, whosever it is.

    Returns:
        The order; None if all is as it should be.

    Raises:
        GpuError: there can't be one; what failed, whether trying again helps, what to do.
    """
    check(wish)
    found = dpkg.query(layout, PACKAGES)
    state = _state(layout, found)
    _refuse_unsafe_hold(found)
    if state.safe and runtime.nvidia_is_lost(layout):
        return _restored_runtime(layout, found, progress)
    if state.safe and (state.held or not state.ours):
        return None
    if state.ours and _fits(state.version, wish.version):
        _ensure_source(layout, wish)
        _ensure_pin(layout, wish.version)
        return None
    version = wish.version if state.ours or state.version else _beside(found, wish.version)
    return _order(layout, wish, version, ours=state.ours or not found, progress=progress)


def undo(layout: Layout) -> bool:
    """Remove the source, the key and the pins that the charm made; packages stay.

    They are dpkg's, and others may use them; that the charm installed them stays
    remembered, so that turning the GPU on again goes on following the wish.

    Returns:
        True if there was anything to remove.
    """
    return repository.undo(layout)


def _state(layout: Layout, found: Mapping[str, Package]) -> ToolkitState:
    held = any(package.held for package in found.values())
    ours = "nvidia-container-toolkit-base" in owned.packages(layout)
    whole = len(found) == len(PACKAGES) and all(one.configured for one in found.values())
    return ToolkitState(_oldest(found) if whole else "", ours, held)


def _oldest(found: Mapping[str, Package]) -> str:
    oldest = ""
    for package in found.values():
        if not oldest or older(package.version, oldest):
            oldest = package.version
    return oldest


def _fits(version: str, wished: str) -> bool:
    return wished in (version, upstream(version))


def _beside(found: Mapping[str, Package], wished: str) -> str:
    """Return the version for what is missing: the siblings' that are left alone, if any."""
    oldest = _oldest(found)
    return oldest if oldest and not older(upstream(oldest), FLOOR) else wished


def _refuse_unsafe_hold(found: Mapping[str, Package]) -> None:
    for package in found.values():
        if package.held and older(upstream(package.version), FLOOR):
            raise GpuError(
                f"{package.name} is held at {package.version}, below the safe floor of {FLOOR}"
                " (CVE-2025-23266)",
                remedy=f"sudo apt-mark unhold {package.name}",
            )


def _ensure_source(layout: Layout, wish: ToolkitWish) -> Path:
    return repository.ensure_source(layout, wish.repository_url, wish.repository_key, wish.proxies)


def _ensure_pin(layout: Layout, version: str) -> None:
    pinned = version if "-" in version else f"{version}-*"
    repository.ensure_pin(layout, repository.PINS, PACKAGES, pinned)


def _order(
    layout: Layout,
    wish: ToolkitWish,
    version: str,
    *,
    ours: bool,
    progress: Callable[[str], None],
) -> Order:
    _say("Setting up NVIDIA Container Toolkit repository...", progress)
    # The package's own script reads the file and fails on a broken one.
    config_file.mend(layout)
    source = _ensure_source(layout, wish)
    if ours:
        _ensure_pin(layout, version)
    exact = _offered(layout, wish, version, source)
    _say("Installing nvidia-container-toolkit...", progress)
    if ours:
        owned.remember(layout, PACKAGES)  # before, so that a kill in between loses nothing

    def done() -> None:
        if not _fits(installed(layout).version, exact):
            raise GpuError(f"{PACKAGES[0]} {exact} is not installed after all", retry=True)
        log.info("nvidia-container-toolkit installed")

    specs = tuple(f"{name}={exact}" for name in PACKAGES)
    return Order(PACKAGES[0], specs, done, downgrade=ours)


def _restored_runtime(
    layout: Layout, found: Mapping[str, Package], progress: Callable[[str], None]
) -> Order:
    """Have dpkg unpack the package of a deleted nvidia-container-runtime once more."""
    _say("Restoring nvidia-container-runtime...", progress)
    config_file.mend(layout)
    base = found["nvidia-container-toolkit-base"]

    def done() -> None:
        if runtime.nvidia_is_lost(layout):
            raise GpuError(f"nvidia-container-runtime is not in {base.name} {base.version}")

    return Order(base.name, (f"{base.name}={base.version}",), done, again=True)


def _offered(layout: Layout, wish: ToolkitWish, version: str, source: Path) -> str:
    """Return the newest exact version that all four packages offer and that fits."""
    # The list may have come with all others just now, and if it is old, what matters is that the
    # version is in it: where its packages are gone, installing them fetches the lists anew.
    listed = repository.is_listed(layout, wish.repository_url, source)
    common = _common(layout) if listed else []
    trouble = None
    if not any(_fits(one, version) for one in common):
        try:
            apt.update(layout, wish.proxies, only=source)
        except GpuError as error:
            trouble = error
        common = _common(layout)
    found = next((one for one in common if _fits(one, version)), "")
    if found:
        return found
    if trouble:
        raise trouble
    newest = ", ".join(upstream(one) for one in common[:4]) or "none"
    raise GpuError(
        f"nvidia-container-toolkit {version} is not in the repository (it has {newest})",
        remedy="set nvidia-toolkit-version to one that it has",
        retry=True,
    )


def _common(layout: Layout) -> list[str]:
    """Return the versions in which all four packages are offered, newest first."""
    offered = apt.offered(layout, PACKAGES)
    return [one for one in offered[PACKAGES[0]] if all(one in list_ for list_ in offered.values())]


def _say(what: str, progress: Callable[[str], None]) -> None:
    log.info("%s", what)
    progress(what.removesuffix("..."))
