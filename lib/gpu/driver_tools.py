"""nvidia-smi and libnvidia-ml of exactly the loaded kernel module's version.

NVML refuses a module of another version ("Driver/library version mismatch"), so no other
version is installed, and never a kernel module: Ubuntu's nvidia-utils-BRANCH[-server]
and libnvidia-compute-BRANCH[-server] are the user-space part alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping

from gpu import apt, dpkg, owned, repository
from gpu.errors import GpuError
from gpu.inventory import GpuInventory
from gpu.orders import Order
from gpu.versions import upstream
from host import Layout

log = logging.getLogger(__name__)

_KERNEL = re.compile(r"linux-|nvidia-(dkms|driver|headless|kernel|open|modules)\b|nvidia-open")
_OF_BRANCH = re.compile(r"(lib)?nvidia-[a-z0-9-]+-[0-9]{3,}(-server)?")


def order_driver_tools(
    layout: Layout,
    inventory: GpuInventory,
    proxies: Mapping[str, str],
    progress: Callable[[str], None],
    prepare: Callable[[], None] = lambda: None,
) -> Order | None:
    """Return the order for nvidia-smi; None if it is there and, the charm's own, fits the module.

    Args:
        layout: where everything lies.
        inventory: what is here.
        proxies: http_proxy, https_proxy, no_proxy.
        progress: called with what is being done.
        prepare: called before all package lists are fetched.

    Raises:
        GpuError: no package of exactly the module's version is offered, or apt failed.
    """
    module = inventory.module
    if not module or (inventory.smi_present and not _outdated(layout, module)):
        return None
    log.info("Installing nvidia-utils...")
    progress("Installing nvidia-utils")
    chosen = _chosen(layout, inventory, proxies, prepare)
    contained = inventory.place.contained
    chosen |= _planned(layout, chosen, module)
    if contained:
        # The module is the host's: an unattended upgrade in here must not run ahead of it.
        repository.ensure_pin(layout, repository.DRIVER_PINS, sorted(chosen), f"{module}-*")
    owned.remember(layout, chosen)
    return Order(
        "nvidia-utils",
        tuple(f"{name}={version}" for name, version in sorted(chosen.items(), reverse=True)),
        done=lambda: log.info("nvidia-utils installed"),
        downgrade=contained,
    )


def _outdated(layout: Layout, module: str) -> bool:
    mine = [name for name in owned.packages(layout) if _OF_BRANCH.fullmatch(name)]
    found = dpkg.query(layout, mine) if mine else {}
    return any(upstream(package.version) != module for package in found.values())


def _chosen(
    layout: Layout,
    inventory: GpuInventory,
    proxies: Mapping[str, str],
    prepare: Callable[[], None],
) -> dict[str, str]:
    """Return name and version of nvidia-utils, and of the library beside it."""
    chosen, _ = _offered(layout, inventory)
    if chosen:
        return chosen
    prepare()
    trouble = None
    try:
        apt.update(layout, proxies)
    except GpuError as error:
        trouble = error
    chosen, others = _offered(layout, inventory)
    if chosen:
        return chosen
    if trouble:
        raise trouble
    instead = f"offered: {', '.join(others)}" if others else "none is offered"
    raise GpuError(
        f"nvidia-utils of the loaded driver {inventory.module} can't be had ({instead})",
        remedy=_remedy(inventory, others),
        retry=True,
    )


def _offered(layout: Layout, inventory: GpuInventory) -> tuple[dict[str, str], list[str]]:
    """Return the packages that fit the module exactly, and which other versions there are."""
    branch = inventory.module.partition(".")[0]
    flavours = (
        [f"{branch}-server", branch] if inventory.module_server else [branch, f"{branch}-server"]
    )
    kinds = ("nvidia-utils", "libnvidia-compute")
    offered = apt.offered(layout, [f"{kind}-{flavour}" for flavour in flavours for kind in kinds])
    for flavour in flavours:
        for version in offered[f"nvidia-utils-{flavour}"]:
            if upstream(version) == inventory.module:
                names = [f"{kind}-{flavour}" for kind in kinds]
                return {name: version for name in names if version in offered[name]}, []
    others = {
        upstream(one): None for flavour in flavours for one in offered[f"nvidia-utils-{flavour}"]
    }
    return {}, list(others)


def _planned(layout: Layout, chosen: Mapping[str, str], module: str) -> dict[str, str]:
    """Return what else of the driver must be named with its version to come in the right one.

    Raises:
        GpuError: a kernel module, or a part of another version, would come along.
    """
    more: dict[str, str] = {}
    for _ in range(3):  # what is named may bring more of its kind
        specs = [f"{name}={version}" for name, version in {**chosen, **more}.items()]
        coming = apt.plan(layout, specs)
        kernel = sorted(name for name in coming if _KERNEL.match(name))
        if kernel:
            raise GpuError(f"nvidia-utils would bring a kernel driver along: {', '.join(kernel)}")
        wrong = [
            name
            for name, version in coming.items()
            if _OF_BRANCH.fullmatch(name) and upstream(version) != module
        ]
        if not wrong:
            return more
        offered = apt.offered(layout, wrong)
        fits = {name: [v for v in offered[name] if upstream(v) == module] for name in wrong}
        more |= {name: versions[0] for name, versions in fits.items() if versions}
        if not all(fits.values()):
            break
    raise GpuError(f"{', '.join(wrong)} can't be had in the loaded driver's version {module}")


def _remedy(inventory: GpuInventory, others: list[str]) -> str:
    if not others:
        return "add the apt source that has it"
    if inventory.place.kind == "lxd":
        name = inventory.place.name or "CONTAINER"
        shared = f"`lxc config set {name} nvidia.runtime=true`"
        return f"upgrade the LXD host's driver to {others[0]}, or run {shared} there"
    if inventory.place.contained:
        return f"upgrade the host's driver to {others[0]}"
    return f"upgrade the driver to {others[0]} and reboot"
