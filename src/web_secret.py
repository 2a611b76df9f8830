"""The Juju secret that all web units share: their keys, and the admin's password."""

from __future__ import annotations

from collections.abc import Callable

import ops

import peers
from concourse.web import WebSecrets

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
    except (ops.SecretNotFoundError, ops.ModelError):
        return None
    return WebSecrets(
        session_signing_key=content["session-signing-key"],
        tsa_host_key=content["tsa-host-key"],
        admin_password=content["admin-password"],
        encryption_key=content.get("encryption-key", ""),
    )


def ensure(charm: ops.CharmBase, make: Callable[[], WebSecrets]) -> WebSecrets | None:
    """Return what the web units share; the leader makes it once.

    Args:
        charm: the charm.
        make: called to generate it, which takes seconds.
    """
    found = read(charm)
    shared = peers.relation(charm)
    if found or shared is None or not charm.unit.is_leader() or shared.data[charm.app].get(_ID):
        return found
    made = make()
    content = {
        "session-signing-key": made.session_signing_key,
        "tsa-host-key": made.tsa_host_key,
        "admin-password": made.admin_password,
    }
    if made.encryption_key:
        content["encryption-key"] = made.encryption_key
    secret = charm.app.add_secret(content, label=_LABEL)
    shared.data[charm.app][_ID] = secret.id or ""
    return made
