"""What the units of one application share over the peer relation.

| bag | key | what |
|---|---|---|
| application | web-unit | the unit that runs the web with deployment-mode=auto |
| application | web-secret | the id of the Juju secret with the web's keys and passwords |
| application | migrated | the newest release whose web has answered: it migrated the database |
| application | turns | whose turn it is to be down: see `turns` |
| unit | migrated | the same, of this unit's web |
| unit | turn, turn-renewals | see `turns` |
| unit | the fields of `concourse-tsa`, both sides | with deployment-mode=auto |

The choice of the web unit is written down, so that another leader changes nothing; only
when that unit is gone does the leader choose again.
"""

from __future__ import annotations

import ops
from ops import hookcmds

from concourse.versions import newest

RELATION = "concourse-peer"
_WEB_UNIT, _MIGRATED = "web-unit", "migrated"


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
    if chosen and not is_gone(chosen, gone):
        return chosen
    chosen = min(here, key=lambda name: int(name.rpartition("/")[2]))
    shared.data[charm.app][_WEB_UNIT] = chosen
    return chosen


def is_gone(name: str, gone: ops.Unit | None) -> bool:
    """Return whether a peer that isn't shown was removed; a new leader may not know it yet."""
    if gone and name == gone.name:
        return True
    goal = hookcmds.goal_state().units.get(name)
    return goal is None or goal.status == "dying"


def migrated(charm: ops.CharmBase) -> str:
    """Return the newest release known to have migrated the database, X.Y.Z; "" for none."""
    shared = relation(charm)
    if shared is None:
        return ""
    return newest(*(shared.data[each].get(_MIGRATED, "") for each in (charm.app, charm.unit)))


def note_migrated(charm: ops.CharmBase, version: str) -> None:
    """Remember that a release has migrated the database."""
    shared = relation(charm)
    if shared is not None:
        _note(shared.data[charm.unit], version)
        pass_on_migrated(charm, charm.unit)


def pass_on_migrated(charm: ops.CharmBase, unit: ops.Unit) -> None:
    """Have the application remember, if this unit leads, what one of its units says."""
    shared = relation(charm)
    if shared is not None and charm.unit.is_leader():
        _note(shared.data[charm.app], shared.data[unit].get(_MIGRATED, ""))


def _note(bag: ops.RelationDataContent, version: str) -> None:
    before = bag.get(_MIGRATED, "")
    after = newest(before, version)
    if after != before:
        bag[_MIGRATED] = after
