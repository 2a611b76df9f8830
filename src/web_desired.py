"""What the operator wants of the web: its options, its database, what its units share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import ops

import database
import peers
import web_address
import web_secret
from certificates import Certificates, TlsTrouble
from concourse.extra_env import parse, secret_env
from concourse.web import Tls, WebSecrets
from concourse.web_environment import MANAGED, STRATEGIES, TSA_PORT
from database import Database, DatabaseTrouble
from options import InvalidOption, choices, number, text

METRICS_PORT = 9391
_MOST = 100_000  # of anything on one worker


@dataclass(frozen=True)
class WebSide:
    """How this unit's web is to run.

    Attributes:
        port: web-port.
        external_url: external-url; "" for this unit's address.
        address: where workers and the other webs reach this unit.
        admin_user: initial-admin-username.
        metrics: whether /metrics is served.
        placement: container-placement-strategy, in order.
        limits: most active tasks, containers and volumes a worker; 0 is no limit.
        extra: web-env and the secret of web-secret-env together.
        secrets: what all web units share; None until the leader has made it.
        encrypted: database-encryption.
        database: how to reach the database, or why it can't be.
        migrated: the newest release known to have migrated it, X.Y.Z; "" for none.
        tls: certificate and key, or why there is none; None with tls-enabled=false.
    """

    port: int
    external_url: str
    address: str
    admin_user: str
    metrics: bool
    placement: tuple[str, ...]
    limits: tuple[int, int, int]
    extra: Mapping[str, str] = field(repr=False)
    secrets: WebSecrets | None = None
    encrypted: bool = False
    database: Database | DatabaseTrouble | None = None
    migrated: str = ""
    tls: Tls | TlsTrouble | None = None

    @property
    def ports(self) -> tuple[int, ...]:
        """What is opened in Juju's firewall when the application is exposed."""
        return (self.port, TSA_PORT, *((METRICS_PORT,) if self.metrics else ()))

    def url(self, *, tls: bool) -> str:
        """Return where users reach the web."""
        return self.external_url or web_address.url(self.address, self.port, tls=tls)


def read_web_side(charm: ops.CharmBase, certificates: Certificates) -> WebSide:
    """Read what the operator wants of this unit's web.

    Raises:
        InvalidOption: an option can't be read, or its secret isn't granted.
    """
    config = charm.config
    return WebSide(
        port=number(config, "web-port", 1, 65535),
        external_url=web_address.external_url(config),
        address=web_address.of_unit(charm),
        admin_user=text(
            config,
            "initial-admin-username",
            r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}",
            "a user's name (letters, digits, . _ @ -)",
        ),
        metrics=bool(config["enable-metrics"]),
        placement=choices(config, "container-placement-strategy", STRATEGIES),
        limits=(
            number(config, "max-active-tasks-per-worker", 0, _MOST),
            number(config, "max-active-containers-per-worker", 0, _MOST),
            number(config, "max-active-volumes-per-worker", 0, _MOST),
        ),
        extra=_extra(charm),
        secrets=web_secret.read(charm),
        encrypted=bool(config["database-encryption"]),
        database=database.read(charm),
        migrated=peers.migrated(charm),
        tls=certificates.read(),
    )


def _extra(charm: ops.CharmBase) -> dict[str, str]:
    """Return web-env and the user secret of web-secret-env as variables."""
    try:
        plain = parse(str(charm.config.get("web-env", "")), MANAGED, "web-env")
        secret = secret_env(_secret(charm), MANAGED, "web-secret-env")
    except ValueError as error:
        raise InvalidOption(str(error)) from None
    both = sorted(plain.keys() & secret.keys())
    if both:
        raise InvalidOption(f"{both[0]} is in both web-env and web-secret-env")
    return {**plain, **secret}


def _secret(charm: ops.CharmBase) -> Mapping[str, str]:
    identity = charm.config.get("web-secret-env")
    if not identity:
        return {}
    try:
        return charm.model.get_secret(id=str(identity)).get_content(refresh=True)
    except (ops.SecretNotFoundError, ops.ModelError):
        raise InvalidOption(
            f"web-secret-env can't be read: juju grant-secret NAME {charm.app.name}"
        ) from None
