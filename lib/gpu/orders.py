"""Has apt install several sets of packages: all in one call, else one set after the other.

Each call of apt reads every package list anew and runs dpkg's triggers, which takes longer
than small packages do.  But a site may mirror only some of them, so where not all can be had
together, each set is tried on its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gpu import apt
from gpu.errors import NotNowError
from host import Layout, Trouble, trouble_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """A set of packages that belong together, all decided but not installed yet.

    Attributes:
        name: what to call it in a status.
        specs: names, or name=version.
        done: called once it is installed; may raise GpuError if it isn't after all.
        downgrade: whether a version may go down.
        again: whether what is installed in that version is unpacked once more.
    """

    name: str
    specs: tuple[str, ...]
    done: Callable[[], None]
    downgrade: bool = False
    again: bool = False


def fulfil(layout: Layout, order: Order, proxies: Mapping[str, str]) -> None:
    """Install one set.

    Raises:
        GpuError: it can't be installed.
    """
    apt.install(layout, order.specs, proxies, downgrade=order.downgrade, again=order.again)
    order.done()


def fulfil_all(
    layout: Layout, orders: Sequence[Order], proxies: Mapping[str, str]
) -> list[Trouble]:
    """Install some sets, together if that works; return what kept any of them from it."""
    together = len(orders) > 1 and not any(order.again for order in orders)
    if together:
        specs = [spec for order in orders for spec in order.specs]
        # What only some may do, none does here: apt then refuses, and each follows alone.
        downgrade = all(order.downgrade for order in orders)
        try:
            apt.install(layout, specs, proxies, downgrade=downgrade)
        except NotNowError as error:
            return [error]  # the next try goes on with what has arrived
        except (Trouble, OSError) as error:
            log.info("Installing one after the other, as not all at once: %s", error)
            together = False
    troubles = []
    for order in orders:
        try:
            if together:
                order.done()
            else:
                fulfil(layout, order, proxies)
        except (Trouble, OSError) as error:
            trouble = error if isinstance(error, Trouble) else trouble_of(error)
            log.warning("GPU packages: %s", trouble)
            troubles.append(trouble)
    return troubles
