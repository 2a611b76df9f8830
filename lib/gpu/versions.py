"""Orders Debian package versions, without starting dpkg for every question."""

from __future__ import annotations

import re

_Number = tuple[int, str]
_Part = tuple[tuple[int, ...], _Number]


def older(one: str, other: str) -> bool:
    """Return whether one Debian version comes before another (deb-version(7))."""
    return _key(one) < _key(other)


def upstream(version: str) -> str:
    """Return a Debian version without its epoch and its revision: "580.95.05"."""
    without_epoch = version.partition(":")[2] or version
    return without_epoch.rpartition("-")[0] or without_epoch


def _key(version: str) -> tuple[_Number, list[_Part], list[_Part]]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    revision = rest.rpartition("-")[2] if "-" in rest else ""
    number = _number(epoch if re.fullmatch("[0-9]+", epoch) else "")
    return number, _parts(upstream(version)), _parts(revision)


def _parts(text: str) -> list[_Part]:
    """Split into pairs of a text and a number, so that lists of them compare as dpkg does."""
    pairs = re.findall(r"([^0-9]*)([0-9]*)", text)
    parts = [((*map(_order, letters), 0), _number(digits)) for letters, digits in pairs]
    while len(parts) > 1 and parts[-1] == parts[-2] == ((0,), _number("")):
        parts.pop()  # a missing number counts as 0
    return parts


def _number(digits: str) -> _Number:
    """Return what compares as a number; int refuses one of thousands of digits."""
    bare = digits.lstrip("0")
    return len(bare), bare


def _order(character: str) -> int:
    """Tilde before the end (0), the end before letters, letters before the rest."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
