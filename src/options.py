"""Reads options one by one: what each takes, or one sentence that says so."""

from __future__ import annotations

import ipaddress
import re

import ops


class InvalidOption(ValueError):
    """An option holds something that it doesn't take; the text is the status."""


def choice(config: ops.ConfigData, option: str, allowed: tuple[str, ...]) -> str:
    """Return an option's value, one of those allowed; InvalidOption if it is none."""
    value = _value(config, option)
    if value in allowed:
        return value
    raise InvalidOption(f"{option}={shown(value)} is not one of: {', '.join(allowed)}")


def choices(config: ops.ConfigData, option: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return a comma-separated list, each of it one of those allowed."""
    values = tuple(part.strip() for part in _value(config, option).split(",") if part.strip())
    for value in values:
        if value not in allowed:
            raise InvalidOption(f"{option}={shown(value)} is not among: {', '.join(allowed)}")
    return values


def text(config: ops.ConfigData, option: str, pattern: str, what: str) -> str:
    """Return an option's value if all of it fits a pattern; `what` says what would."""
    value = _value(config, option)
    if re.fullmatch(pattern, value, re.ASCII):
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
    try:
        for address in value.split(",") if value else ():
            ipaddress.ip_address(address)
    except ValueError:
        raise InvalidOption(f"{option}={shown(value)} is not a list of IP addresses") from None
    return value


def shown(value: str, most: int = 40) -> str:
    """Return an operator's value, or another charm's, as one short printable word for a status."""
    return repr(value if len(value) <= most else f"{value[:most]}…")


def _value(config: ops.ConfigData, option: str) -> str:
    return str(config.get(option, "")).strip()
