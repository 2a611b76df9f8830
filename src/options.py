"""Reads options one by one: what each takes, or one sentence that says so."""

from __future__ import annotations

import ipaddress
import re

import ops

from words import shown

_MOST_ADDRESSES = 32
# ipaddress takes anything at all as an IPv6 address' zone.
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]{1,15})?")


class InvalidOption(ValueError):
    """An option holds something that it doesn't take; the text is the status."""


def choice(config: ops.ConfigData, option: str, allowed: tuple[str, ...]) -> str:
    """Return an option's value, one of those allowed; InvalidOption if it is none."""
    value = _value(config, option)
    if value in allowed:
        return value
    raise InvalidOption(f"{option}={shown(value)} is not one of: {', '.join(allowed)}")


def choices(config: ops.ConfigData, option: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return a comma-separated list, each of it one of those allowed, and once."""
    parts = (part.strip() for part in _value(config, option).split(","))
    values = tuple(dict.fromkeys(part for part in parts if part))
    for value in values:
        if value not in allowed:
            raise InvalidOption(f"{option}={shown(value)} is not among: {', '.join(allowed)}")
    return values


def text(config: ops.ConfigData, option: str, pattern: str, what: str) -> str:
    """Return an option's value if all of it fits a pattern; `what` says what would.

    What can't be printed never does: it would end in files, logs and statuses.
    """
    value = _value(config, option)
    if re.fullmatch(pattern, value, re.ASCII) and value.isprintable():
        return value
    raise InvalidOption(f"{option}={shown(value)} is not {what}")


def number(config: ops.ConfigData, option: str, least: int, most: int) -> int:
    """Return an option's whole number, within bounds."""
    value = int(config[option])
    if least <= value <= most:
        return value
    raise InvalidOption(f"{option}={value} is not a number from {least} to {most}")


def addresses(config: ops.ConfigData, option: str) -> str:
    """Return a comma-separated list of IP addresses, without spaces; "" for none."""
    value = _value(config, option).replace(" ", "")
    several = value.split(",") if value else []
    if len(several) > _MOST_ADDRESSES or not all(map(_is_address, several)):
        raise InvalidOption(f"{option}={shown(value)} is not a list of IP addresses")
    return value


def _value(config: ops.ConfigData, option: str) -> str:
    return str(config.get(option, "")).strip()


def _is_address(text: str) -> bool:
    if not _ADDRESS.fullmatch(text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
