"""What the units of one application share over the peer relation.

| bag | key | what |
|---|---|---|
| application | web-unit | the unit that runs the web with deployment-mode=auto |
| application | web-secret | the id of the Juju secret with the web's keys and passwords |
| unit | the fields of `concourse-tsa`, both sides | with deployment-mode=auto |

The choice of the web unit is written down, so that another leader changes nothing; only
when that unit is gone does the leader choose again.
"""

from __future__ import annotations

import ops
from ops import hookcmds

RELATION = "concourse-peer"
_WEB_UNIT = "web-unit"


def relation(charm: ops.CharmBase) -> ops.Relation | None:
    """Return the peer relation; there is none for an instant when a unit begins or ends."""
    return charm.model.get_relation(RELATION)


def web_unit(charm: ops.CharmBase) -> str:
    """Return the unit that was chosen to run the web with deployment-mode=auto, or ""."""
    shared = relation(charm)
    return shared.data[charm.app].get(_WEB_UNIT, "") if shared else ""


def choose_web_unit(charm: ops.CharmBase, gone: ops.Unit | None = None) -> str:
    """Return the unit that runs the web with deployment-mode=auto; "" if none is chosen yet.

    The leader chooses where nobody is chosen or the chosen unit is gone: the lowest number.

    Args:
        charm: the charm.
        gone: a unit that is on its way out, which Juju may still show.
    """
    shared = relation(charm)
    if shared is None:
        return ""
    here = {charm.unit.name, *(unit.name for unit in shared.units)}
    here -= {gone.name} if gone else set()
    chosen = web_unit(charm)
    if chosen in here or not charm.unit.is_leader():
        return chosen
    if chosen and not _is_gone(chosen, gone):
        return chosen
    chosen = min(here, key=lambda name: int(name.rpartition("/")[2]))
    shared.data[charm.app][_WEB_UNIT] = chosen
    return chosen


def _is_gone(name: str, gone: ops.Unit | None) -> bool:
    """Return whether a peer that isn't shown was removed; a new leader may not know it yet."""
    if gone and name == gone.name:
        return True
    goal = hookcmds.goal_state().units.get(name)
    return goal is None or goal.status == "dying"
