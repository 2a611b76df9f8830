"""Edits single values of a TOML text; comments, order and spelling of the rest stay."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

log = logging.getLogger(__name__)


def edited(text: str, changes: Mapping[tuple[str, ...], Any]) -> str:
    """Set values of a TOML text, or remove them; all else stays as it is written.

    The result is read again.  Where tomlkit can't edit a layout right (tables out of
    order are its weak spot), the values are written afresh, without the comments.

    Args:
        text: a valid document.
        changes: paths of keys, and the new values; None removes one.
    """
    expected = values_of(text)
    due = {}
    for path, value in changes.items():
        table = expected if len(path) == 1 else expected.get(path[0], {})
        if table.get(path[-1]) != value:
            due[path] = value
    if not due:
        return text
    document = tomlkit.parse(text if text.endswith("\n") or not text else text + "\n")
    _apply(expected, due)
    try:
        _apply(document, due)
        edited = tomlkit.dumps(document)
        if tomlkit.parse(edited).unwrap() == expected:
            return edited
    except (TOMLKitError, LookupError, TypeError, AttributeError, ValueError) as error:
        log.debug("tomlkit can't edit this layout: %s", error)
    return tomlkit.dumps(expected)  # right by value; comments are the smaller loss


def _apply(table: Any, changes: Mapping[tuple[str, ...], Any]) -> None:
    for path, value in changes.items():
        *sections, key = path
        place = table
        for section in sections:
            if section not in place:
                place[section] = {}
            place = place[section]
        if value is None:
            place.pop(key, None)
        else:
            place[key] = copy.deepcopy(value)


def values_of(text: str) -> dict[str, Any]:
    """Return a document's values as plain Python objects.

    Raises:
        TOMLKitError, ValueError: it is no TOML.
    """
    return dict(tomlkit.parse(text).unwrap())
