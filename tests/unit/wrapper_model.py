"""What Python's json makes of a spec: the model that the wrapper is held to.

It judges the text alone and knows nothing of how it was built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.unit.wrapper_rig import TABLE

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
CAPABLE = "NVIDIA_DRIVER_CAPABILITIES"
SIDE_DOORS = (
    *("NVIDIA_IMEX_CHANNELS", "NVIDIA_MOFED", "NVIDIA_GDS", "NVIDIA_GDRCOPY"),
    *("NVIDIA_NVSWITCH", "NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES"),
)
KNOWN = ("compute", "compat32", "graphics", "utility", "video", "display", "ngx")


@dataclass(frozen=True)
class Expected:
    """What has to become of a spec: "nvidia", "runc", "refused", or "no gpu" (either of these).

    Attributes:
        where: the outcome.
        env: the whole new env, if the outcome is "nvidia".
    """

    where: str
    env: tuple[str, ...] = ()


class _Unclear(Exception):
    pass


def expect(text: str) -> Expected:
    """Judge a spec: what no JSON parser, or not every one, reads the same gets no GPU."""
    try:
        json.loads(text, parse_constant=_reject)
        written = _STRING.sub(lambda found: json.dumps(found[0][1:-1]), text)
        mounts, env = _read(json.loads(written, object_pairs_hook=tuple))
    except (ValueError, _Unclear, RecursionError):
        return Expected("no gpu")
    return _judge(mounts, env)


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# Escapes of characters that need none, as no JSON writer makes them.
_ODD = re.compile(r"\\(/|u00(2[^6]|3[^ce]|[4-7]))", re.IGNORECASE)


def _reject(text: str) -> None:
    raise ValueError(text)


def _members(value: Any, wanted: set[str]) -> dict[str, Any]:
    """Return those of an object's members that matter; value is a tuple of pairs.

    All strings are as they are written in the text, escapes and all.
    """
    if not isinstance(value, tuple):
        raise _Unclear
    found: dict[str, Any] = {}
    for key, member in value:
        if re.search(r"[^A-Za-z0-9_.-]", key):
            raise _Unclear
        if key.lower() in wanted:
            if key not in wanted or key in found:
                raise _Unclear
            found[key] = member
    return found


def _read(spec: Any) -> tuple[list[str], list[str] | None]:
    top = _members(spec, {"process", "mounts"})
    if "process" not in top:
        raise _Unclear
    process = _members(top["process"], {"env"})
    env = process.get("env")
    if env is not None and not (
        isinstance(env, list) and all(isinstance(each, str) for each in env)
    ):
        raise _Unclear
    if any(_ODD.search(each.partition("=")[0] if "=" in each else each) for each in env or ()):
        raise _Unclear
    if not isinstance(top.get("mounts", []), list):
        raise _Unclear
    places = []
    for mount in top.get("mounts", []):
        place = _members(mount, {"destination"}).get("destination", "")
        if not isinstance(place, str) or _ODD.search(place):
            raise _Unclear
        places.append(place)
    return places, env


def _judge(mounts: Sequence[str], env: Sequence[str] | None) -> Expected:
    if not any(re.match(r"/tmp/build/[0-9a-f]{8}(/|\Z)", each) for each in mounts):
        return Expected("runc")
    if any(re.match(r"/tmp/build/(get|put)(/|\Z)", each) for each in mounts):
        return Expected("runc")
    entries = [each.partition("=") for each in env or ()]
    values = {name: value for name, equals, value in entries if equals}
    devices = values.get(VISIBLE, "all")  # as it is written: no spelling needs an escape
    if devices in ("", "none", "void"):
        return Expected("runc")
    spellings = dict(TABLE.spellings)
    uuids = list(TABLE.allowed)
    if devices != "all":
        if any(token not in spellings for token in devices.split(",")):
            return Expected("refused")
        uuids = list(dict.fromkeys(spellings[token] for token in devices.split(",")))
    words = values.get(CAPABLE, "all").split(",")
    both = [each for each in KNOWN if each in words]
    capabilities = "all" if "all" in words or not both else ",".join(both)
    gone = {VISIBLE, CAPABLE, *SIDE_DOORS}
    kept = ["".join(each) for each in entries if not (each[1] and each[0] in gone)]
    new = (f"{VISIBLE}={','.join(uuids)}", f"{CAPABLE}={capabilities}")
    return Expected("nvidia", (*(json.loads(f'"{each}"') for each in kept), *new))
