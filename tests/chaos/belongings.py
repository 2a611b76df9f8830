"""What an operator has on a worker's machine, which nothing may cost him."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tomlkit

from rehearsal.machine import Machine
from rehearsal.standins.nvidia_ctk import DEFAULT
from tests.chaos.causes import CONFIG, Site

# His config.toml: NVIDIA's own, but for one value.
_SECTION, _KEY, _VALUE = "nvidia-container-runtime", "log-level", "warning"
OPERATORS = DEFAULT.replace(f'{_KEY} = "info"', f'{_KEY} = "{_VALUE}"')
RUNC = "/opt/concourse/bin/runc.real"
_WORKER_KEY = "/etc/concourse/keys/worker_key"  # without it the web has another worker
_FILES = {
    "/etc/apt/sources.list.d/theirs.sources": (
        "Enabled: no\nTypes: deb\nURIs: http://127.0.0.1:9/theirs/\nSuites: ./\n"
    ),
    "/etc/apt/preferences.d/theirs": "Package: theirs\nPin: version 1\nPin-Priority: 1\n",
    "/etc/docker/daemon.json": (
        '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}}\n'
    ),
    "/etc/nvidia-container-runtime/theirs.toml": "# theirs\n",
    "/usr/local/bin/theirs": "#!/bin/sh\necho theirs\n",
    "/var/lib/concourse/worker/volumes/live/theirs/volume/marker": "a task's output\n",
}


def plant(machine: Machine) -> None:
    """Give an operator his files, before the charm comes."""
    for path, content in {**_FILES, CONFIG: OPERATORS}.items():
        machine.write(path, content)


def look(machine: Machine) -> Mapping[str, tuple[int, bytes]]:
    """Return mode and content of his files and the worker's key; what is missing is left out."""
    places = {path: machine.root / path.lstrip("/") for path in (*_FILES, _WORKER_KEY)}
    return {path: _told(place) for path, place in places.items() if place.is_file()}


def _told(place: Path) -> tuple[int, bytes]:
    return place.stat().st_mode, place.read_bytes()


def count(known: Mapping[str, tuple[int, bytes]]) -> None:
    """Have everything be there that is to be kept."""
    assert set(known) == {*_FILES, _WORKER_KEY}


def values(machine: Machine) -> tuple[object, object]:
    """Return two values of config.toml: the operator's own, and the runtimes."""
    section = tomlkit.parse(machine.read(CONFIG)).unwrap().get(_SECTION, {})
    return section.get(_KEY), section.get("runtimes")


def setting_is_kept(machine: Machine) -> None:
    """His config.toml has his value beside the charm's, or as he wrote it."""
    assert values(machine)[0] == _VALUE, machine.read(CONFIG)


def set_aside(site: Site) -> None:
    """What can't be used as a config.toml is beside it, as it was, and nothing else is."""
    site.machine.shell(
        f"set -- {CONFIG}.unusable*\n"
        '[ $# = 1 ] || { echo "$@" >&2; exit 1; }\n'
        "[ \"$(stat -c '%F %a' $1)\" = \"$(stat -c '%F %a' /run/before)\" ]\n"
        "if [ -L $1 ]; then [ $(readlink $1) = $(readlink /run/before) ]\n"
        "elif [ -d $1 ]; then diff -r $1 /run/before\n"
        "elif [ -f $1 ]; then cmp $1 /run/before; fi\n"
        "rm -r $1"
    )
    assert values(site.machine)[1] == [RUNC]


def nothing_is_set_aside(machine: Machine) -> None:
    """No config.toml was taken for one that can't be used."""
    folder, name = CONFIG.rsplit("/", 1)
    assert machine.shell(f"find {folder} -name '{name}.unusable*'") == ""


def link_is_kept(site: Site) -> None:
    """What config.toml was a link to is as it was."""
    site.machine.shell(f"cmp /run/linked /etc/theirs.toml; [ ! -L {CONFIG} ]")
    assert values(site.machine)[1] == [RUNC]
