"""What the wish and a look at the machine come to: the offer, and the wrapper's table of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from files import remove
from gpu import looks
from gpu.diagnosis import diagnose
from gpu.inventory import GpuInventory, look
from gpu.selection import nothing_here, select, tags
from gpu.terms import GpuWish
from gpu.wrapper import DeviceTable, ensure_devices
from host import Layout


def settle(layout: Layout, wish: GpuWish, inventory: GpuInventory) -> looks.Offer:
    """Return what the worker offers after a look, which counts if two say the same.

    Raises:
        OSError: it can't be remembered (a full disk).  No table of another wish stays then: who
            asks for a GPU is refused, rather than given one that isn't allowed any more.
    """
    seen = _offer(wish, inventory)
    before = looks.settled(layout)
    another = before is not None and before.wish != seen.wish
    if before and before.allowed and not seen.allowed and another:
        # Another wish settles at once; a glitch in that very moment must not.
        seen = _offer(wish, look(layout))
    with _no_table_otherwise(layout) if another else nullcontext():
        offer = looks.settle(layout, seen)
    if seen.allowed and not offer.allowed:
        # Nothing is lost by believing a gain sooner: the second look is taken now.
        return looks.settle(layout, _offer(wish, look(layout)))
    return offer


def ensure_table(layout: Layout, wish: GpuWish, offer: looks.Offer) -> bool:
    """Write what the wrapper gives to whom; True if it changed.

    Raises:
        OSError: it can't be written.  The one that was there is gone.
    """
    table = DeviceTable(
        offer.allowed,
        offer.spellings,
        wish.capabilities,
        sharing=wish.sharing.mode,
        default=wish.sharing.default(offer.tags),
        timeout=wish.sharing.timeout,
    )
    with _no_table_otherwise(layout):
        return ensure_devices(layout, table)


@contextmanager
def _no_table_otherwise(layout: Layout) -> Iterator[None]:
    try:
        yield
    except OSError:
        remove(layout.gpu_devices)  # which a full disk doesn't hinder
        raise


def _offer(wish: GpuWish, inventory: GpuInventory) -> looks.Offer:
    diagnosis = diagnose(inventory)
    if not inventory.gpus or not diagnosis.usable:
        return looks.Offer(wish=wish.spelled, finding=diagnosis.message)
    chosen = select(inventory, wish.request)
    if not chosen.allowed:
        return looks.Offer(wish=wish.spelled, finding=nothing_here(inventory, wish.request))
    return looks.Offer(
        wish=wish.spelled,
        allowed=chosen.allowed,
        spellings=chosen.spellings,
        tags=tags(wish.tags, chosen, wish.mode),
    )
