"""GpuManager: the only face of the GPU rooms that the charm sees.

It keeps the order in which a worker's runtime chain is built and taken apart.
Building, each step right before the next begins:

1. a marker that says "the charm has begun here", before anything is touched;
2. packages: nvidia-utils, jq, nvidia-container-toolkit;
3. every tree's original runc gets its second name, runc.real;
4. both configurations of nvidia-container-runtime name runc.real, absolutely;
5. the device table and the wrapper files, reached by nobody yet;
6. the chain is called once with `--version`, under a time limit;
7. nvidia-container-runtime is diverted, then each tree's runc becomes the wrapper.

Taking apart runs backwards, and the marker goes last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attempts
from files import clear_temporaries, ensure_dir, remove, write_file
from gpu import looks, nvidia_config, offering, runtime, selftest, toolkit
from gpu.diagnosis import diagnose
from gpu.errors import GpuError
from gpu.inventory import GpuInventory, look
from gpu.orders import Order, fulfil_all
from gpu.selection import devices
from gpu.terms import GpuState, GpuWish
from gpu.wrapper import ensure_wrapper, files_of, sharing_now
from host import Layout, Trouble, trouble_of

__all__ = ["CHAIN", "PACKAGES", "GpuManager", "GpuState", "GpuWish"]

log = logging.getLogger(__name__)

PACKAGES = "gpu-packages"
CHAIN = "gpu-chain"


class GpuManager:
    """Builds, observes and takes apart a worker's GPU chain.

    Args:
        layout: where everything lies.
        progress: called with a short sentence while something long runs.
    """

    def __init__(self, layout: Layout, progress: Callable[[str], None]) -> None:
        self._layout = layout
        self._progress = progress

    @property
    def begun(self) -> bool:
        """Whether the charm has touched this machine's GPU set-up and not undone it yet."""
        return self._marker.exists()

    def ensure(self, wish: GpuWish, trees: Sequence[Path], *, at_once: bool) -> GpuState:
        """Do what is missing until tasks can use the GPUs; never raises for GPU trouble.

        Args:
            wish: what the operator wants.
            trees: every Concourse release tree on the machine.
            at_once: try again what failed before, even if its pause isn't over.
        """
        try:
            inventory = self._ensure_packages(wish, look(self._layout), at_once=at_once)
            offer = offering.settle(self._layout, wish, inventory)
            if self.begun:
                offering.ensure_table(self._layout, wish, offer)
            if self.begun and trees:
                with _plain_otherwise(trees):
                    self._build_chain(inventory, trees)
        except (Trouble, OSError) as error:
            trouble = error if isinstance(error, Trouble) else trouble_of(error)
            log.warning("GPU chain: %s", trouble)
            attempts.failed(self._layout, CHAIN, trouble)
        else:
            attempts.succeeded(self._layout, CHAIN)
        return self.observe()

    def carry(self, tree: Path) -> bool:
        """Give a tree, before it becomes the current one, what the machine's names lead to.

        Whatever the wish is by now: while the charm's set-up stands, nvidia-container-runtime
        (Docker's, too) goes through the current tree's wrapper and runc.real.

        Returns:
            True if anything changed.

        Raises:
            GpuError, OSError: it can't be given them; it must not become current then.
        """
        if not self.begun:
            return False
        changed = runtime.ensure_backup(tree, keep=self.kept)
        changed |= ensure_wrapper(self._layout, tree)
        if runtime.tree_is_wrapped(self._layout.concourse):
            changed |= runtime.ensure_tree_swapped(tree, keep=self.kept)
        return changed

    def observe(self) -> GpuState:
        """Return what the worker offers now; reads the charm's memory and nothing else."""
        offer = looks.settled(self._layout)
        stands = runtime.chain_stands(self._layout) and self._layout.gpu_devices.exists()
        if offer and offer.allowed and stands:
            troubles = [attempts.last(self._layout, step) for step in (PACKAGES, CHAIN)]
            note = next((trouble.what for trouble in troubles if trouble), "")
            sharing = sharing_now(self._layout)
            return GpuState(len(offer.allowed), offer.tags, note=note, sharing=sharing)
        for step in (PACKAGES, CHAIN):
            attempt = attempts.last(self._layout, step)
            if attempt:
                return GpuState(trouble=attempt.what, waiting=attempt.retry)
        if offer is None or offer.allowed:
            return GpuState(trouble="GPU set-up has not run yet", waiting=True)
        return GpuState(trouble=offer.finding)

    def here(self) -> str:
        """Return what could be chosen on this machine, as an operator would write it."""
        return ", ".join(device.id for device in devices(look(self._layout))) or "none"

    def undo(self, trees: Sequence[Path]) -> bool:
        """Leave the machine's files as they were found; packages stay installed.

        Returns:
            True if there was anything to undo.

        Raises:
            Trouble: dpkg-divert failed, or containers are being created right now; the next call
                goes on from there.
        """
        for step in (PACKAGES, CHAIN):
            attempts.succeeded(self._layout, step)
        clear_temporaries(self._touched(trees))
        for left in self._marker.parent.glob(".*.tmp"):
            remove(left)
        if not self.begun:
            return looks.forget(self._layout)
        for tree in trees:
            runtime.restore_tree(tree)
        runtime.restore_nvidia(self._layout)
        nvidia_config.undo(self._layout)
        runtime.drop_backups(self._layout, trees, keep=self.kept)
        remove(self._layout.gpu_devices)
        remove(self._layout.chain_config)  # read by calls that were under way until now
        selftest.forget(self._layout)
        toolkit.undo(self._layout)
        looks.forget(self._layout)
        remove(self._marker)
        log.info("GPU wrapper removed")
        return True

    @property
    def _marker(self) -> Path:
        return self._layout.state / "gpu/begun"

    def _touched(self, trees: Sequence[Path]) -> list[Path]:
        """Every file and link that building the chain may have been killed at."""
        layout = self._layout
        named = [layout.nvidia_runtime, layout.nvidia_config, layout.wrapper, layout.gpu_devices]
        runcs = [tree / "bin/runc" for tree in trees]
        backed = [runtime.backup_of(path) for path in (layout.nvidia_runtime, *runcs)]
        wrappers = [path for tree in trees for path in files_of(tree)]
        return [*named, *runcs, *backed, *wrappers, layout.chain_config, self._marker]

    @property
    def kept(self) -> Path:
        """Where files that had to make way are kept."""
        return self._layout.state / "kept"

    def _ensure_packages(
        self, wish: GpuWish, inventory: GpuInventory, *, at_once: bool
    ) -> GpuInventory:
        """Install what is missing, with a growing pause after failures; look again if it did."""
        if not diagnose(inventory).can_set_up:
            attempts.succeeded(self._layout, PACKAGES)  # something else is the trouble now
            return inventory
        if not at_once and not attempts.due(self._layout, PACKAGES):
            return inventory
        ensure_dir(self._layout.state, 0o700)
        write_file(self._marker, "", mode=0o600)
        layout, report = self._layout, self._progress
        # Each on its own: a mirror of NVIDIA's packages may be all that a site has.
        steps: tuple[Callable[[], Order | None], ...] = (
            lambda: toolkit.order_driver_tools(
                layout,
                inventory,
                wish.proxies,
                report,
                lambda: toolkit.prepare(layout, wish.toolkit),
            ),
            lambda: toolkit.order_toolkit(layout, wish.toolkit, report),
            lambda: toolkit.order_jq(layout, report),
        )
        orders: list[Order] = []
        troubles: list[Trouble] = []
        for step in steps:
            try:
                order = step()
                orders += [order] if order else []
            except (Trouble, OSError) as error:
                trouble = error if isinstance(error, Trouble) else trouble_of(error)
                log.warning("GPU packages: %s", trouble)
                troubles.append(trouble)
        if orders:
            report(f"Installing {', '.join(order.name for order in orders)}")
            troubles += fulfil_all(layout, orders, wish.proxies)
        if troubles:
            attempts.failed(layout, PACKAGES, troubles[0])
        else:
            attempts.succeeded(layout, PACKAGES)
        return look(layout) if orders or troubles else inventory

    def _build_chain(self, inventory: GpuInventory, trees: Sequence[Path]) -> None:
        """Build the chain in every tree; the module's docstring gives the order."""
        layout = self._layout
        for tree in trees:
            runtime.ensure_backup(tree, keep=self.kept)
        packages = toolkit.installed(layout)
        if not packages.version:
            return  # a wrapper that stands tells tasks; why it's missing is remembered
        if not packages.safe:
            raise GpuError(f"nvidia-container-toolkit {packages.version} is not safe to use")
        no_cgroups = inventory.place.kind == "lxd" and inventory.place.unprivileged
        nvidia_config.ensure_host_config(layout, runtime=layout.runc_real, no_cgroups=no_cgroups)
        nvidia_config.ensure_chain_config(layout, runtime=layout.runc_real, no_cgroups=no_cgroups)
        if not all(runtime.tree_is_wrapped(tree) for tree in trees):
            log.info("Creating GPU wrapper script...")
        for tree in trees:
            ensure_wrapper(layout, tree)
        selftest.ensure_proved(layout, trees, runtime.nvidia_original(layout))
        changed = runtime.ensure_link(layout, keep=self.kept)
        changed |= runtime.ensure_nvidia_swapped(layout, keep=self.kept)
        for tree in trees:
            changed |= runtime.ensure_tree_swapped(tree, keep=self.kept)
        if changed:
            selftest.through_names(layout)
            log.info("GPU wrapper installed successfully")


@contextmanager
def _plain_otherwise(trees: Sequence[Path]) -> Iterator[None]:
    """If it fails, let plain runc serve CPU work, or, on a full disk, the wrapper that is there."""
    try:
        yield
    except (Trouble, OSError):
        for tree in trees:
            try:
                runtime.restore_tree(tree)
            except OSError as error:
                log.warning("%s keeps its wrapper: %s", tree, error)
        raise
