"""The machine's /etc/nvidia-container-runtime/config.toml as others left it there."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tomlkit.exceptions import TOMLKitError

from files import sync_dir
from gpu.toml_edit import values_of
from host import Layout

log = logging.getLogger(__name__)

RUNTIMES = ("nvidia-container-runtime", "runtimes")
NO_CGROUPS = ("nvidia-container-cli", "no-cgroups")
_LARGEST = 256 * 1024  # bytes; the package's own has 1.5 KiB


@dataclass(frozen=True)
class ConfigFile:
    """A config.toml as it lies there.

    Attributes:
        text: its content, to the byte; None if there is none.
        mode: its permissions.
        owner: its user and group id.
        link: where it points to, if it is a symbolic link; the rest is then the target's.
    """

    text: str | None = None
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    link: str = ""

    @property
    def toml(self) -> str:
        """The content as TOML text: without a byte order mark, which tomlkit refuses."""
        return (self.text or "").removeprefix("\ufeff")


def read(path: Path) -> ConfigFile:
    """Read a file that `why_unusable` says nothing about."""
    link = os.readlink(path) if path.is_symlink() else ""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            owner = (status.st_uid, status.st_gid)
            return ConfigFile(file.read().decode(), stat.S_IMODE(status.st_mode), owner, link)
    except FileNotFoundError:
        return ConfigFile(link=link)


def why_unusable(path: Path) -> str:
    """Return why the toolkit can't use a file; "" if it can, or if there is none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "it is no regular file"
        if status.st_size > _LARGEST:
            return "it is far too large"
        values = values_of(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, TOMLKitError, RecursionError) as error:
        return str(error)[:120] or type(error).__name__
    for section, _ in (RUNTIMES, NO_CGROUPS):
        if not isinstance(values.get(section, {}), dict):
            return f"{section} is no table"
    return ""


def mend(layout: Layout) -> Path | None:
    """Move a file aside that the toolkit can't use, on which its package's script fails.

    Returns:
        Where it is now, or None if there was nothing to mend.
    """
    path = layout.nvidia_config
    why = why_unusable(path)
    if not why:
        return None
    number, aside = 1, path.with_name(f"{path.name}.unusable")
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.unusable.{number}")
    path.rename(aside)
    sync_dir(path.parent)
    log.warning("%s can't be used (%s); it is kept as %s", path, why, aside)
    return aside
