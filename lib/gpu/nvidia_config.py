"""The machine's /etc/nvidia-container-runtime/config.toml: two values of it, and back.

`runtimes` must name Concourse's original runc, absolutely and alone: with a wrapper
named runc first in PATH, any bare "runc" in the list would run in circles.  In an
unprivileged container device cgroups can't be set, so `no-cgroups` must be true there.
Everything else in the file is its owner's and stays, comments and order included.

The package's own script rewrites the file on every upgrade (`nvidia-ctk config
--in-place`: values stay, comments go), so the charm's values are recognised as values.
The whole file as it was found is kept before they are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit

from files import ensure_symlink, read_text, remove, write_file
from gpu.chain_config import chain_values
from gpu.config_file import NO_CGROUPS, RUNTIMES, ConfigFile, mend, read, why_unusable
from gpu.toml_edit import edited, values_of
from host import Layout


@dataclass(frozen=True)
class _Kept:
    """What is remembered for undoing.

    Attributes:
        original: the file without the charm's values.
        folder: whether its folder was there.
        runtime: the charm's value of `runtimes`.
        no_cgroups: whether `no-cgroups = true` is the charm's.
        written: the text that the charm wrote.
    """

    original: ConfigFile
    folder: bool
    runtime: str
    no_cgroups: bool
    written: str


def ensure_host_config(layout: Layout, *, runtime: Path, no_cgroups: bool) -> bool:
    """Make the machine's file name the original runc alone.

    A file that can't be used (no TOML, no regular file) is moved aside, which is logged
    with the place, and a sound one is written.

    Args:
        layout: where everything lies.
        runtime: the original runc, an absolute path.
        no_cgroups: whether device cgroups can't be set here; False changes nothing.

    Returns:
        True if the file changed.
    """
    mend(layout)
    found, kept = read(layout.nvidia_config), _recall(layout)
    values: dict[tuple[str, ...], Any] = {RUNTIMES: [str(runtime)]}
    if no_cgroups:
        values[NO_CGROUPS] = True
    wanted = edited(found.toml, values)
    right = not found.link and found.text in (wanted, "\ufeff" + wanted)
    if right and kept:
        return False  # also after the package's script has rewritten it, values and all
    if right:
        wanted = found.text or ""
    untouched = kept is not None and not found.link and found.text == kept.written
    if kept and untouched:
        kept = replace(kept, no_cgroups=kept.no_cgroups or no_cgroups)
    else:
        kept = _keep(layout, found, kept, str(runtime), no_cgroups=no_cgroups)
    # Remembered first: a kill in between leaves the original in both places.
    _remember(layout, replace(kept, runtime=str(runtime), written=wanted))
    if right:
        return False
    return write_file(layout.nvidia_config, wanted, mode=found.mode, owner=found.owner)


def ensure_chain_config(layout: Layout, *, runtime: Path, no_cgroups: bool) -> bool:
    """Make the file exist that Concourse's own chain reads instead of the machine's.

    It takes over what is harmless of the machine's file, and closes the ways to a GPU
    that don't go through the wrapper; `gpu.chain_config` lists both.

    Returns:
        True if the file changed.
    """
    mend(layout)
    host = values_of(read(layout.nvidia_config).toml)
    values = chain_values(host, runtime=runtime, no_cgroups=no_cgroups)
    header = (
        "# Made by the charm concourse-ci-machine, for this Concourse worker's tasks alone.\n\n"
    )
    return write_file(layout.chain_config, header + tomlkit.dumps(values))


def undo(layout: Layout) -> bool:
    """Take the charm's values out of the machine's file again; the chain's own is left.

    If nobody changed the machine's file since, it is byte for byte as it was found,
    else only the charm's values go back to what they were.  One that can't be used
    any more is left as it is.

    Returns:
        True if anything changed.
    """
    kept, path = _recall(layout), layout.nvidia_config
    if kept is None:
        return False
    changed = not why_unusable(path) and _restore(path, read(path), kept)
    if not kept.folder and path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
    remove(_memory(layout))
    return changed


def _restore(path: Path, found: ConfigFile, kept: _Kept) -> bool:
    original = kept.original
    if found.link or found.text != kept.written:
        original = replace(found, text=_without_ours(found.toml, kept))
        if original.text == found.toml:
            return False  # nothing of the charm's is in it any more
        if not found.link and kept.original.text is None and not values_of(original.text or ""):
            return remove(path)
    if original.link:
        return _restore_link(path, original.link, kept)
    if original.text is None:
        return remove(path)
    return write_file(path, original.text, mode=original.mode, owner=original.owner)


def _restore_link(path: Path, link: str, kept: _Kept) -> bool:
    """Put an operator's link back; he may have moved the file there that the charm had edited."""
    target = path.parent / link
    changed = False
    if not why_unusable(target):
        found = read(target)
        text = _without_ours(found.toml, kept)
        if text != found.toml:
            changed = write_file(target.resolve(), text, mode=found.mode, owner=found.owner)
    return ensure_symlink(path, link) or changed


def _keep(
    layout: Layout, found: ConfigFile, kept: _Kept | None, runtime: str, *, no_cgroups: bool
) -> _Kept:
    """Return what to remember of a file that others made, or changed since.

    What is kept as the original never holds the charm's values.  A machine that was set
    up by hand for Concourse has them already: there, undoing takes the path out, as
    nothing will be there any more.
    """
    now = values_of(found.toml)
    if kept is None:
        folder = layout.nvidia_config.parent.is_dir()
        no_cgroups = no_cgroups and _at(now, NO_CGROUPS) is not True
        text = edited(found.toml, {RUNTIMES: _others(_at(now, RUNTIMES), runtime)})
    else:
        folder, no_cgroups = kept.folder, kept.no_cgroups or no_cgroups
        text = _without_ours(found.toml, kept)
    if text == found.toml:
        original = found
    elif kept and kept.original.text is None and not values_of(text):
        original = replace(found, text=None)
    else:
        original = replace(found, text=text)
    return _Kept(original, folder, runtime, no_cgroups, "")


def _without_ours(text: str, kept: _Kept) -> str:
    """Put the charm's values back to what they were, where they still stand."""
    now, before = values_of(text), values_of(kept.original.toml)
    changes: dict[tuple[str, ...], Any] = {}
    ours: dict[tuple[str, str], Any] = {RUNTIMES: [kept.runtime]}
    if kept.no_cgroups:
        ours[NO_CGROUPS] = True
    for path, value in ours.items():
        if _at(now, path) != value:
            continue
        changes[path] = _at(before, path)
        section, key = path
        if section not in before and list(now[section]) == [key]:
            changes[(section,)] = None
    return edited(text, changes)


def _at(values: Mapping[str, Any], path: tuple[str, str]) -> Any:
    return values.get(path[0], {}).get(path[1])


def _others(runtimes: Any, runtime: str) -> Any:
    """Return a list of runtimes without one of them; None, the default, if none is left."""
    if not isinstance(runtimes, list) or runtime not in runtimes:
        return runtimes
    return [one for one in runtimes if one != runtime] or None


def _memory(layout: Layout) -> Path:
    return layout.state / "gpu/nvidia-config.json"


def _recall(layout: Layout) -> _Kept | None:
    try:
        stored = json.loads(read_text(_memory(layout)) or "null")
        if stored is None:
            return None
        original = stored.pop("original")
        original["owner"] = tuple(original["owner"])
        return _Kept(ConfigFile(**original), **stored)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None  # a damaged memory: what stands there counts as found


def _remember(layout: Layout, kept: _Kept) -> None:
    write_file(_memory(layout), json.dumps(asdict(kept), indent=1) + "\n", mode=0o600)
