"""The arguments of Juju's hook tools, as ops and Juju's own documentation write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_FLAGS = frozenset(("app", "include-data", "refresh", "peek", "network"))


@dataclass(frozen=True)
class Arguments:
    """What a tool was called with.

    Attributes:
        words: what belongs to no option.
        options: option -> value, without dashes.
        flags: the options that take none.
    """

    words: tuple[str, ...]
    options: dict[str, str]
    flags: frozenset[str]

    def option(self, name: str) -> str:
        """Return an option's value; "" if it wasn't given."""
        return self.options.get(name, "")


def parse(arguments: Sequence[str]) -> Arguments:
    """Tell words, options and flags apart; `--` ends the options, `-` alone is a word."""
    words: list[str] = []
    options: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.lstrip("-").partition("=")
        if argument == "--":
            words += rest
            break
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
        elif name in _FLAGS and not equals:
            flags.add(name)
        elif equals:
            options[name] = value
        else:
            options[name] = rest.pop(0) if rest else ""
    return Arguments(tuple(words), options, frozenset(flags))
