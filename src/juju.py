"""What a reconcile tells Juju and asks it for, on behalf of the machine.

The rooms below know nothing of relations, secrets and ports; the workload calls these
few verbs instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import ops

import database
import desired
import peers
import tsa
import web_secret
from certificates import Certificates
from concourse.web import WebSecrets
from turns import Turn

WEB_RELATION = "web-tsa"
_RESOURCE = "concourse"


class Juju:
    """The model as seen from one unit.

    Args:
        charm: the charm.
        mode: deployment-mode, which decides whether TSA data goes over the peer relation.
        turn: this unit's turn to be down.
        certificates: the unit's certificate.
    """

    def __init__(
        self, charm: ops.CharmBase, mode: str, turn: Turn, certificates: Certificates
    ) -> None:
        self._charm = charm
        self._mode = mode
        self.turn = turn
        self._certificates = certificates

    def publish_worker_key(self, name: str, key: str) -> bool:
        """Tell the web this worker's public key; True if it was told before."""
        relations = desired.tsa_relations(self._charm, self._mode)
        news = [tsa.publish_worker(each, self._charm.unit, name, key) for each in relations]
        return bool(news) and not any(news)

    @property
    def leads(self) -> bool:
        """Whether this unit leads its application."""
        return self._charm.unit.is_leader()

    def withdraw(self, *, web: bool) -> None:
        """Take back what this unit said of its web, or else of its worker."""
        names = (WEB_RELATION if web else desired.TSA_RELATION, peers.RELATION)
        for relation in (each for name in names for each in self._charm.model.relations[name]):
            if relation.active:
                tsa.withdraw(relation.data[self._charm.unit], web=web)

    def request_database(self) -> None:
        """Ask the related PostgreSQL for a database."""
        database.request(self._charm)

    def request_certificate(self) -> None:
        """Ask the related provider for the web's certificate, if one is wanted."""
        self._certificates.request()

    def secrets(self, make: Callable[[], WebSecrets]) -> WebSecrets | None:
        """Return what all web units share, made once by the leader."""
        return web_secret.ensure(self._charm, make)

    def publish_web(self, port: int, host_key: str, version: str) -> None:
        """Tell workers where this unit's gateway is and how to know it."""
        for relation in self._worker_relations():
            bag = relation.data[self._charm.unit]
            tsa.publish_web(bag, self._address(relation), port)
            if relation.name == peers.RELATION:
                tsa.publish_web_identity(bag, host_key, version)
            elif self._charm.unit.is_leader():
                tsa.publish_web_identity(relation.data[self._charm.app], host_key, version)

    def workers(self) -> dict[str, str]:
        """Return the public keys of every related worker by name: one read a worker."""
        found: dict[str, str] = {}
        for relation in self._worker_relations():
            found.update(tsa.workers(relation))
        return found

    def note_migrated(self, version: str) -> None:
        """Remember that a release has migrated the database: it runs here, and answers."""
        peers.note_migrated(self._charm, version)

    def attached_release(self) -> Path | None:
        """Return the attached release; absent, failing or empty all mean not attached."""
        try:
            path = self._charm.model.resources.fetch(_RESOURCE)
        except (ops.ModelError, NameError):
            return None
        return path if path.is_file() and path.stat().st_size else None

    def open_ports(self, *ports: int) -> None:
        """Open exactly these ports (TCP) when the application is exposed."""
        self._charm.unit.set_ports(*ports)

    def _worker_relations(self) -> Iterator[ops.Relation]:
        names = [WEB_RELATION, *([peers.RELATION] if self._mode == "auto" else [])]
        for name in names:
            yield from (each for each in self._charm.model.relations[name] if each.active)

    def _address(self, relation: ops.Relation) -> str:
        binding = self._charm.model.get_binding(relation)
        address = binding.network.ingress_address if binding else None
        return str(address or "127.0.0.1")
