"""The Juju secret that all web units share: their keys, and the admin's password."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import ops

import peers
from concourse import web_keys
from concourse.web import WebSecrets

log = logging.getLogger(__name__)

_ID = "web-secret"
_LABEL = "concourse-web"


def read(charm: ops.CharmBase) -> WebSecrets | None:
    """Return what the web units share, or None while the leader has not made it."""
    shared = peers.relation(charm)
    identity = shared.data[charm.app].get(_ID, "") if shared else ""
    if not identity:
        return None
    try:
        content = charm.model.get_secret(id=identity).get_content(refresh=True)
        return WebSecrets(
            session_signing_key=content["session-signing-key"],
            tsa_host_key=content["tsa-host-key"],
            admin_password=content["admin-password"],
            encryption_key=content.get("encryption-key", ""),
        )
    except (ops.SecretNotFoundError, ops.ModelError, KeyError):  # KeyError: another one's id
        return None


def ensure(charm: ops.CharmBase, make: Callable[[], WebSecrets]) -> WebSecrets | None:
    """Return what the web units share; the leader makes it once.

    The encryption key joins it when database-encryption is first switched on, and stays.
    It is never returned by the hook that makes it: Juju keeps what a hook made only once
    that has ended well, and a database encrypted with a lost key is lost.

    Args:
        charm: the charm.
        make: called to generate all but the encryption key, which takes seconds.
    """
    found = read(charm)
    shared = peers.relation(charm)
    if shared is None or not charm.unit.is_leader():
        return found
    identity = shared.data[charm.app].get(_ID, "")
    encrypted = bool(charm.config["database-encryption"])
    if found and encrypted and not found.encryption_key:
        log.info("Making the database's encryption key")
        charm.model.get_secret(id=identity).set_content(_content(_with_key(found)))
    if found or identity:
        return found
    made = make()
    secret = charm.app.add_secret(_content(_with_key(made) if encrypted else made), label=_LABEL)
    shared.data[charm.app][_ID] = secret.id or ""
    return made


def _with_key(shared: WebSecrets) -> WebSecrets:
    return replace(shared, encryption_key=web_keys.encryption_key())


def _content(shared: WebSecrets) -> dict[str, str]:
    key = {"encryption-key": shared.encryption_key} if shared.encryption_key else {}
    return {
        "session-signing-key": shared.session_signing_key,
        "tsa-host-key": shared.tsa_host_key,
        "admin-password": shared.admin_password,
        **key,
    }
