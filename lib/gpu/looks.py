"""What the worker offers changes only when two looks agree.

One glitch of nvidia-smi must not restart a worker or take its tags away, so a
look that differs from the settled one is only remembered; the next look that
says the same settles it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from files import read_text, remove, write_file
from host import Layout


@dataclass(frozen=True)
class Offer:
    """What a worker offers to its tasks.

    Attributes:
        wish: what the operator asked for, as one string; another wish settles at once.
        allowed: full UUIDs of the GPUs (or MIG devices) that tasks may use.
        spellings: every accepted request beside its UUID.
        tags: the worker's tags.
        finding: the diagnosis behind it, for `juju status`, when nothing is allowed.
    """

    wish: str = ""
    allowed: tuple[str, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    finding: str = ""

    @property
    def substance(self) -> tuple[object, ...]:
        """What two looks have to agree on; the wording of a trouble isn't part of it."""
        return (self.wish, self.allowed, self.spellings, self.tags)


def settled(layout: Layout) -> Offer | None:
    """Return what the worker offers now, if anything was ever settled."""
    return _read(_settled(layout))


def settle(layout: Layout, seen: Offer) -> Offer:
    """Take a look into account and return what the worker offers after it.

    The first look, one after another wish, and one that agrees with the look
    before it settle; any other leaves the offer as it was.
    """
    now = settled(layout)
    before = _read(_pending(layout))
    agreed = now is not None and before is not None and before.substance == seen.substance
    if now is None or now.wish != seen.wish or now.substance == seen.substance or agreed:
        _write(_settled(layout), seen)
        remove(_pending(layout))
        return seen
    _write(_pending(layout), seen)
    return now


def forget(layout: Layout) -> bool:
    """Forget every look; True if there was one."""
    pending = remove(_pending(layout))
    return remove(_settled(layout)) or pending


def _settled(layout: Layout) -> Path:
    return layout.state / "gpu/offer.json"


def _pending(layout: Layout) -> Path:
    return layout.state / "gpu/offer-pending.json"


def _write(path: Path, offer: Offer) -> bool:
    return write_file(path, json.dumps(asdict(offer), indent=1) + "\n", mode=0o600)


def _read(path: Path) -> Offer | None:
    text = read_text(path)
    if text is None:
        return None
    try:
        stored = json.loads(text)
        return Offer(
            wish=stored["wish"],
            allowed=tuple(stored["allowed"]),
            spellings=tuple((spelling, uuid) for spelling, uuid in stored["spellings"]),
            tags=tuple(stored["tags"]),
            finding=stored["finding"],
        )
    except (ValueError, TypeError, KeyError):
        return None  # a damaged memory: the next look settles at once
