"""The keys of the workers that the web's gateway (TSA) lets in.

The file holds "TYPE BASE64 NAME" a line and is the memory of who is there.  A worker that
leaves needs its key to retire: it keeps it until the web has forgotten the worker, 15
minutes at most; those few are remembered apart, with the time.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from concourse import account
from concourse.keys import is_public_key
from concourse.paths import WebPaths
from concourse.reread import note
from concourse.web import AUTHORIZED_HEADER
from files import read_text, remove, write_file
from host import Layout

log = logging.getLogger(__name__)

GRACE = 900.0  # seconds that a departed worker's key stays at most
Departed = Mapping[str, tuple[str, float]]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FIELDS = {"ssh-rsa": 3, "ssh-ed25519": 2}  # an ecdsa key has three: type, curve, point


@dataclass(frozen=True)
class Authorized:
    """What became of the workers' keys.

    Attributes:
        changed: whether the file did; then `reread.ensure_reread` has to follow.
        refused: the names whose key isn't one valid public-key line, or that can't be a
            worker's name, as they can be shown; sorted.
        leaving: the departed workers whose key still stays; sorted.
    """

    changed: bool
    refused: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()


def authorised(
    present: Mapping[str, str], departed: Departed, now: float, unregistered: Collection[str] = ()
) -> dict[str, str]:
    """Return whose key is to be let in: worker's name -> key.

    Args:
        present: the workers that are there.
        departed: those that left, with the time when, in seconds since the epoch.
        now: the time, likewise.
        unregistered: names that the web no longer has as workers.
    """
    leaving = {
        name: key
        for name, (key, since) in departed.items()
        if name not in unregistered and now - since < GRACE
    }
    return {**leaving, **present}


def ensure(
    layout: Layout, present: Mapping[str, str], *, now: float, unregistered: Collection[str] = ()
) -> Authorized:
    """Let in exactly the workers given, and for a while those that have just left.

    Args:
        layout: the paths.
        present: every worker that is there: name -> public-key line.
        now: the time, in seconds since the epoch.
        unregistered: names that the web no longer has as workers.

    Raises:
        ConcourseError: the web's user, who reads the file, can't be made.
    """
    good, refused = _sorted_out(present)
    current, departed = read(layout), _departed(layout)
    left = {name: (key, now) for name, key in current.items() if name not in departed}
    return _write(layout, good, {**left, **departed}, now, unregistered, refused)


def update(
    layout: Layout,
    *,
    joined: Mapping[str, str] | None = None,
    left: Collection[str] = (),
    now: float,
    unregistered: Collection[str] = (),
) -> Authorized:
    """Let in one worker more or less, without knowing the others.

    Args:
        layout: the paths.
        joined: workers that came or changed their key: name -> public-key line.
        left: names of workers that went.
        now: the time, in seconds since the epoch.
        unregistered: names that the web no longer has as workers.

    Raises:
        ConcourseError: the web's user, who reads the file, can't be made.
    """
    good, refused = _sorted_out(joined or {})
    current, departed = read(layout), _departed(layout)
    gone = {name: (current[name], now) for name in left if name in current}
    departed = {**gone, **departed}
    stay = {name: key for name, key in current.items() if name not in departed}
    return _write(layout, {**stay, **good}, departed, now, unregistered, refused)


def read(layout: Layout) -> dict[str, str]:
    """Return who is let in now: worker's name -> key, those that are leaving included."""
    found = {}
    for line in (read_text(WebPaths(layout).authorized_keys) or "").splitlines():
        fields = line.split(" ")
        if len(fields) == 3 and not line.startswith("#"):
            found[fields[2]] = f"{fields[0]} {fields[1]}"
    return found


def is_whole_key(line: str) -> bool:
    """Return whether a text is one public-key line that Concourse's parser takes.

    Beyond its looks, the key's parts are counted: golang.org/x/crypto/ssh leaves out a key
    that is cut short, or has anything behind it, and says nothing.
    """
    if not is_public_key(line) or not line.isprintable():
        return False
    kind, encoded = line.split()[:2]
    try:
        parts = _parts(base64.b64decode(encoded, validate=True))
    except (binascii.Error, struct.error, ValueError):
        return False
    if len(parts) != _FIELDS.get(kind, 3):
        return False
    if kind == "ssh-ed25519":
        return len(parts[1]) == 32
    if kind == "ssh-rsa":  # Go refuses moduli below 1024 and above 16384 bits
        exponent, modulus = (int.from_bytes(part, "big") for part in parts[1:])
        return exponent % 2 == 1 and 3 <= exponent < 2**31 and 1024 <= modulus.bit_length() <= 16384
    return parts[1] == kind.rpartition("-")[2].encode() and parts[2][:1] == b"\x04"


def _parts(blob: bytes) -> list[bytes]:
    parts = []
    while blob:
        (length,) = struct.unpack_from(">I", blob)
        if len(blob) < 4 + length:
            raise ValueError("cut short")
        parts.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return parts


def _sorted_out(given: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the keys that can be let in, without comments, and the names of the others."""
    good, refused = {}, []
    for name, line in given.items():
        stripped = line.strip()
        if _NAME.fullmatch(name) and is_whole_key(stripped):
            good[name] = " ".join(stripped.split()[:2])
        else:
            refused.append(name if _NAME.fullmatch(name) else repr(name[:40]))
    return good, tuple(sorted(refused))


def _write(
    layout: Layout,
    present: Mapping[str, str],
    departed: Departed,
    now: float,
    unregistered: Collection[str],
    refused: tuple[str, ...],
) -> Authorized:
    # A clock that was set back must not make a key stay for longer.
    away = {
        name: (key, min(since, now))
        for name, (key, since) in departed.items()
        if name not in present
    }
    keys = authorised(present, away, now, unregistered)
    leaving = {name: entry for name, entry in away.items() if name in keys}
    for name in refused:
        log.warning("The key of worker %s is not one valid public-key line", name)
    lines = (f"{key} {name}\n" for name, key in sorted(keys.items()))
    paths = WebPaths(layout)
    # First who is leaving: a kill in between costs nothing but a second look.
    _remember(layout, leaving)
    text = AUTHORIZED_HEADER + "".join(lines)
    changed = account.write_readable(layout, paths.authorized_keys, text)
    if changed:
        note(layout)
    return Authorized(changed, refused, tuple(sorted(leaving)))


def _departed(layout: Layout) -> dict[str, tuple[str, float]]:
    try:
        stored = json.loads(read_text(WebPaths(layout).departed) or "{}")
        return {str(name): (str(key), float(since)) for name, (key, since) in stored.items()}
    except (ValueError, TypeError, AttributeError):
        return {}  # a damaged memory: those that left get their time once more


def _remember(layout: Layout, leaving: Departed) -> None:
    path = WebPaths(layout).departed
    if leaving:
        write_file(path, json.dumps(leaving, indent=1, sort_keys=True) + "\n", mode=0o600)
    else:
        remove(path)
