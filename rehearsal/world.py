"""Everything around a machine that the charm meets: repositories, releases, a web, a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import Machine
from .standins import packages, release, web
from .standins.model import Model, Relation
from .standins.packages import Repositories
from .standins.web import URL, Web

RELATION = "worker-tsa"


@dataclass(frozen=True)
class Supplies:
    """What a machine can fetch, while it is served.

    Attributes:
        folder: the folder that is served at `URL`, as seen from here.
        repositories: the apt repositories on offer.
    """

    machine: Machine
    folder: Path
    repositories: Repositories

    def options(self) -> dict[str, Any]:
        """Return the charm's options that lead to this world."""
        return {
            "concourse-release-url": f"{URL}/releases",
            "nvidia-repository-url": f"{URL}/{packages.TOOLKIT}",
            "nvidia-repository-key": self.repositories.key,
        }

    def offer_release(self, version: str = release.VERSION, file: Path | None = None) -> None:
        """Offer a Concourse release for download: a stand-in, or a real file."""
        target = self.folder / f"releases/v{version}"
        if file is None:
            release.build(target, self.machine.outside / "runtime", version)
            return
        target.mkdir(parents=True, exist_ok=True)
        link = target / release.file_name(version)
        link.symlink_to(file.resolve())
        release.publish(link)


@dataclass(frozen=True)
class World(Supplies):
    """What stands around a machine, while it is served.

    Attributes:
        web: the related web.
    """

    web: Web

    def relation(self, version: str = release.VERSION) -> Relation:
        """Return a relation to the web with what it publishes; its unit has yet to join."""
        shared = {"tsa-host-public-key": self.web.host_key, "concourse-version": version}
        unit = {"tsa-host": "127.0.0.1", "tsa-port": str(web.TSA_PORT)}
        return Relation(RELATION, 1, "web", [], {"web": shared, "web/0": unit})


@contextmanager
def around(
    machine: Machine, authorized: Callable[[str, str], bool] = lambda *_: True
) -> Iterator[World]:
    """Build and serve a machine's world for the length of a `with` block.

    Args:
        machine: a booted machine.
        authorized: asked whether a worker of this name may register with this public key.
    """
    repositories = packages.build(machine)
    packages.offer_archive(machine, URL, repositories.key)
    folder = machine.outside / "world"
    peer = Web(authorized)
    with web.serve(machine, peer, folder):
        yield World(machine, folder, repositories, peer)


@contextmanager
def supplied(machine: Machine, like: Supplies | None = None) -> Iterator[Supplies]:
    """Serve what a machine fetches, without a web, for the length of a `with` block.

    Args:
        machine: a booted machine.
        like: another machine's, to be offered the same; else it is built.
    """
    folder = machine.outside / "world"
    if like:
        shutil.copytree(like.folder, folder, symlinks=True)
    repositories = like.repositories if like else packages.build(machine)
    packages.offer_archive(machine, URL, repositories.key)
    with web.serve_files(machine, folder):
        yield Supplies(machine, folder, repositories)


def knows(model: Model) -> Callable[[str, str], bool]:
    """Return what a web does that authorizes the workers of its relations, and no others."""

    def authorized(name: str, key: str) -> bool:
        bags = [relation.bag(model.unit) for relation in model.relations]
        return any(
            bag.get("worker-name") == name
            and bag.get("worker-public-key", "").split()[:2] == key.split()[:2]
            for bag in bags
        )

    return authorized
