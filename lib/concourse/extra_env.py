"""Variables of Concourse that the operator sets: options web-env and worker-env, and a secret.

Every mistake is one sentence that names the option (and the line) and what it takes;
values are never part of it, as they may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from concourse.environment import unfit
from words import shown

_NAME = re.compile(r"CONCOURSE_[A-Z0-9]+(?:_[A-Z0-9]+)*")
_KEY = re.compile(r"[a-z](?:-?[a-z0-9])*")
# In bytes.  Linux takes 128 KiB for one variable, and 2 MiB for all that a process is given
# (execve(2)), of which web-env and web-secret-env may both have their share.
_LONGEST = 32_768
_LARGEST = 512 * 1024

# What the charm sets on a worker, or must never be set there: with containerd, any
# CONCOURSE_GARDEN_… variable keeps a worker from starting.
WORKER_MANAGED = (
    "CONCOURSE_BAGGAGECLAIM_DRIVER",
    "CONCOURSE_CONTAINERD_BIN",
    "CONCOURSE_CONTAINERD_CONFIG",
    "CONCOURSE_CONTAINERD_DNS_PROXY_ENABLE",
    "CONCOURSE_CONTAINERD_DNS_SERVER",
    "CONCOURSE_CONTAINERD_LOG_LEVEL",
    "CONCOURSE_GARDEN_*",
    "CONCOURSE_HEALTHCHECK_BIND_*",
    "CONCOURSE_LOG_LEVEL",
    "CONCOURSE_NAME",
    "CONCOURSE_RUNTIME",
    "CONCOURSE_TAG",
    "CONCOURSE_TSA_HOST",
    "CONCOURSE_TSA_PUBLIC_KEY",
    "CONCOURSE_TSA_WORKER_PRIVATE_KEY",
    "CONCOURSE_WORK_DIR",
)


def parse(text: str, managed: Collection[str], option: str = "web-env") -> dict[str, str]:
    """Return the variables of an option with one CONCOURSE_KEY=value a line.

    Empty lines and lines that start with # are left out.  A value is what stands behind
    the first =, spaces at both ends off; quotes and backslashes mean nothing.

    Args:
        text: the option's text.
        managed: the variables that the charm sets; one that ends with * is a prefix.
        option: the option's name.

    Raises:
        ValueError: one sentence for the status.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        line = raw.strip(" \t")
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name, value = name.rstrip(" \t"), value.lstrip(" \t")
        where = f"{option}, line {number}"
        if not equals:
            raise ValueError(f"{where} has no =: each line is CONCOURSE_KEY=value")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{where}: {shown(name)} is no variable of Concourse: each line is "
                "CONCOURSE_KEY=value"
            )
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            raise ValueError(f"{where}: {name} has a value in quotes: write it without")
        _check(where, name, value, managed)
        if name in found:
            raise ValueError(f"{where}: {name} is there twice")
        found[name] = value
    _check_all(found, option)
    return found


def secret_env(
    content: Mapping[str, str], managed: Collection[str], option: str = "web-secret-env"
) -> dict[str, str]:
    """Return the variables of a user secret: github-client-secret -> CONCOURSE_GITHUB_….

    A line break at the end of a value, as `#file` leaves it, is taken off.

    Args:
        content: the secret's keys and values.
        managed: the variables that the charm sets; one that ends with * is a prefix.
        option: the name of the option that leads to the secret.

    Raises:
        ValueError: one sentence for the status; it never holds a value.
    """
    found = {}
    for key, raw in sorted(content.items()):
        where = f"{option}, key {shown(key)}"
        if not _KEY.fullmatch(key):
            raise ValueError(f"{where} is not like github-client-secret")
        bare = key.removeprefix("concourse-")
        name = "CONCOURSE_" + bare.upper().replace("-", "_")
        value = re.sub(r"(\r\n|\n|\r)\Z", "", raw)
        _check(where, name, value, managed)
        if name in found:
            raise ValueError(f"{where}: {name} is there twice")
        found[name] = value
    _check_all(found, option)
    return found


def is_managed(name: str, managed: Collection[str]) -> bool:
    """Return whether a variable is one that the charm sets itself."""
    return any(
        name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for entry in managed
    )


def _check(where: str, name: str, value: str, managed: Collection[str]) -> None:
    if is_managed(name, managed):
        raise ValueError(f"{where}: {name} is set by the charm")
    if not value:
        raise ValueError(f"{where}: {name} has no value")
    if _size(value) > _LONGEST:
        raise ValueError(f"{where}: {name} is longer than {_LONGEST} bytes")
    if unfit(value):
        raise ValueError(
            f"{where}: {name} holds a line break or another control character, which no "
            "variable can"
        )


def _check_all(found: Mapping[str, str], option: str) -> None:
    if sum(_size(name) + _size(value) for name, value in found.items()) > _LARGEST:
        raise ValueError(f"{option} is longer than {_LARGEST} bytes in all")


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))
