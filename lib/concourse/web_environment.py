"""How a web is to run, and the environment that says so.

Every name was held against `concourse web --help` of 8.3.0 (359 variables) and the
source: atc/atccmd/command.go, tsa/tsacmd/command.go, cmd/concourse/web.go,
skymarshal/skycmd/flags.go, flag/postgres_config.go, atc/worker/placement.go,
atc/metric/emitter/prometheus.go.  A variable is CONCOURSE_ and its flag; lists and
maps are split at every comma (vito/twentythousandtonnesofcrudeoil), with no way to
write one inside an item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from concourse.errors import ConcourseError
from concourse.extra_env import is_managed
from concourse.paths import WebPaths
from host import Layout

TSA_PORT = 2222
STRATEGIES = (
    "volume-locality",
    "random",
    "fewest-build-containers",
    "limit-active-tasks",
    "limit-active-containers",
    "limit-active-volumes",
)
SSL_MODES = ("disable", "require", "verify-ca", "verify-full")

# What an operator can add to, but not replace.
JOINED = ("CONCOURSE_ADD_LOCAL_USER", "CONCOURSE_MAIN_TEAM_LOCAL_USER")
# What the charm sets itself; a star stands for the rest of a name.
MANAGED = (
    "CONCOURSE_BIND_PORT",
    "CONCOURSE_CLUSTER_NAME",
    "CONCOURSE_CONTAINER_PLACEMENT_STRATEGY",
    "CONCOURSE_ENABLE_LETS_ENCRYPT",
    "CONCOURSE_ENCRYPTION_KEY*",
    "CONCOURSE_EXTERNAL_URL",
    "CONCOURSE_LOG_LEVEL",
    "CONCOURSE_MAX_ACTIVE_CONTAINERS_PER_WORKER",
    "CONCOURSE_MAX_ACTIVE_TASKS_PER_WORKER",
    "CONCOURSE_MAX_ACTIVE_VOLUMES_PER_WORKER",
    "CONCOURSE_OLD_ENCRYPTION_KEY*",
    "CONCOURSE_PEER_ADDRESS",
    "CONCOURSE_POSTGRES_CA_CERT",
    "CONCOURSE_POSTGRES_DATABASE",
    "CONCOURSE_POSTGRES_HOST",
    "CONCOURSE_POSTGRES_PASSWORD",
    "CONCOURSE_POSTGRES_PORT",
    "CONCOURSE_POSTGRES_SOCKET",
    "CONCOURSE_POSTGRES_SSLMODE",
    "CONCOURSE_POSTGRES_USER",
    "CONCOURSE_PROMETHEUS_BIND_*",
    "CONCOURSE_SESSION_SIGNING_KEY",
    "CONCOURSE_TLS_BIND_PORT",
    "CONCOURSE_TLS_CERT",
    "CONCOURSE_TLS_KEY",
    "CONCOURSE_TSA_ATC_URL",
    "CONCOURSE_TSA_AUTHORIZED_KEYS",
    "CONCOURSE_TSA_BIND_*",
    "CONCOURSE_TSA_CLUSTER_NAME",
    "CONCOURSE_TSA_HOST_KEY",
    "CONCOURSE_TSA_LOG_LEVEL",
    "CONCOURSE_TSA_PEER_ADDRESS",
)


@dataclass(frozen=True)
class Postgres:
    """How the database is reached.

    Attributes:
        host: a name or an address.
        port: 1 to 65535.
        user: who signs in.
        password: its password.
        database: the database's name.
        ca: the certificates, PEM, that the server's is checked against; "" for the
            system's.
        sslmode: "disable", "require", "verify-ca" or "verify-full", as libpq has them.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    ca: str = field(default="", repr=False)
    sslmode: str = "disable"


@dataclass(frozen=True)
class Tls:
    """What the web shows to browsers: a certificate (and its chain) and its key, both PEM."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class WebSecrets:
    """What all web units share.

    Attributes:
        session_signing_key: RSA, PEM; signs logins.
        tsa_host_key: RSA, PEM; what workers know the gateway by.
        admin_password: of the first local user.
        encryption_key: 16 or 32 characters that the database is or was encrypted with; ""
            if it never was.
    """

    session_signing_key: str = field(repr=False)
    tsa_host_key: str = field(repr=False)
    admin_password: str = field(repr=False)
    encryption_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class WebWish:
    """How a web is to run.

    Attributes:
        external_url: where users reach it; https:// with TLS.
        port: where it listens, for http or, with TLS, https.
        peer_address: where the other web units reach this one.
        cluster_name: shown on the dashboard.
        postgres: its database.
        secrets: what all web units share.
        encrypted: whether the database is to be encrypted, once there is a key.
        admin_user: the first local user, a member of the main team.
        extra: more variables, none of MANAGED; those of JOINED are added to.
        placement: strategies that choose a worker, in order; () for Concourse's own.
        max_active_tasks_per_worker: for the strategy limit-active-tasks; 0 is no limit.
        max_active_containers_per_worker: for limit-active-containers; 0 is no limit.
        max_active_volumes_per_worker: for limit-active-volumes; 0 is no limit.
        metrics: the address and port of Prometheus' /metrics; None for none.
        tls: certificate and key; None for plain http.
        tsa_port: where workers connect to.
        log_level: "debug", "info", "error" or "fatal".
        proxies: `http_proxy`, `https_proxy` and `no_proxy`, as far as set.
    """

    external_url: str
    port: int
    peer_address: str
    cluster_name: str
    postgres: Postgres
    secrets: WebSecrets
    encrypted: bool = False
    admin_user: str = "admin"
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)
    placement: tuple[str, ...] = ()
    max_active_tasks_per_worker: int = 0
    max_active_containers_per_worker: int = 0
    max_active_volumes_per_worker: int = 0
    metrics: tuple[str, int] | None = None
    tls: Tls | None = None
    tsa_port: int = TSA_PORT
    log_level: str = "info"
    proxies: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain_port(self) -> int:
        """The port for http.

        Concourse listens for http even beside https, on the same address, and its own
        gateway registers workers there (atc/atccmd/command.go, DefaultURL).
        """
        if self.tls is None:
            return self.port
        taken = {self.port, self.tsa_port, *(self.metrics[1:] if self.metrics else ())}
        return next(port for port in range(8080, 8090) if port not in taken)

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that it listens on for others."""
        plain = (self.plain_port,) if self.tls else ()
        metrics = self.metrics[1:] if self.metrics else ()
        return (self.port, *plain, self.tsa_port, *metrics)


def environment(layout: Layout, wish: WebWish) -> dict[str, str]:
    """Return the web's environment, without the stamp.

    Raises:
        ConcourseError: a setting can't be passed on.
    """
    _check(wish)
    paths = WebPaths(layout)
    variables = {
        "CONCOURSE_EXTERNAL_URL": wish.external_url,
        "CONCOURSE_BIND_PORT": str(wish.plain_port),
        "CONCOURSE_PEER_ADDRESS": _bracketed(wish.peer_address),
        "CONCOURSE_CLUSTER_NAME": wish.cluster_name,
        "CONCOURSE_LOG_LEVEL": wish.log_level,
        "CONCOURSE_TSA_LOG_LEVEL": wish.log_level,
        "CONCOURSE_TSA_BIND_PORT": str(wish.tsa_port),
        "CONCOURSE_TSA_HOST_KEY": str(paths.host_key),
        "CONCOURSE_TSA_AUTHORIZED_KEYS": str(paths.authorized_keys),
        "CONCOURSE_SESSION_SIGNING_KEY": str(paths.session_key),
        "CONCOURSE_ADD_LOCAL_USER": f"{wish.admin_user}:{wish.secrets.admin_password}",
        "CONCOURSE_MAIN_TEAM_LOCAL_USER": wish.admin_user,
        **_database(paths, wish.postgres),
        **_encryption(wish),
        **_placement(wish),
    }
    if wish.tls:
        variables["CONCOURSE_TLS_BIND_PORT"] = str(wish.port)
        variables["CONCOURSE_TLS_CERT"] = variables["CONCOURSE_TLS_KEY"] = str(paths.tls)
    if wish.metrics:
        variables["CONCOURSE_PROMETHEUS_BIND_IP"] = wish.metrics[0]
        variables["CONCOURSE_PROMETHEUS_BIND_PORT"] = str(wish.metrics[1])
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        variables[name] = wish.proxies.get(name, "")
    for name, value in wish.extra.items():
        variables[name] = f"{variables[name]},{value}" if name in JOINED else value
    return {name: value for name, value in variables.items() if value}


def _database(paths: WebPaths, postgres: Postgres) -> dict[str, str]:
    return {
        "CONCOURSE_POSTGRES_HOST": postgres.host,
        "CONCOURSE_POSTGRES_PORT": str(postgres.port),
        "CONCOURSE_POSTGRES_USER": postgres.user,
        "CONCOURSE_POSTGRES_PASSWORD": postgres.password,
        "CONCOURSE_POSTGRES_DATABASE": postgres.database,
        "CONCOURSE_POSTGRES_SSLMODE": postgres.sslmode,
        "CONCOURSE_POSTGRES_CA_CERT": str(paths.postgres_ca) if postgres.ca else "",
    }


def _encryption(wish: WebWish) -> dict[str, str]:
    """Return the key under the name that has the next start encrypt or decrypt with it.

    Either goes over every row that isn't as it should be yet, and over none a second time
    (atc/db/migration/encryption.go), so that the old key may stay for good.
    """
    name = "CONCOURSE_ENCRYPTION_KEY" if wish.encrypted else "CONCOURSE_OLD_ENCRYPTION_KEY"
    return {name: wish.secrets.encryption_key}


def _placement(wish: WebWish) -> dict[str, str]:
    limits = {
        "TASKS": wish.max_active_tasks_per_worker,
        "CONTAINERS": wish.max_active_containers_per_worker,
        "VOLUMES": wish.max_active_volumes_per_worker,
    }
    found = {f"CONCOURSE_MAX_ACTIVE_{what}_PER_WORKER": str(n) for what, n in limits.items() if n}
    return {"CONCOURSE_CONTAINER_PLACEMENT_STRATEGY": ",".join(wish.placement), **found}


def _bracketed(address: str) -> str:
    """Return an address as a port can stand behind it (tsa/tsacmd/remote_cli.go)."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _check(wish: WebWish) -> None:
    """Raise ConcourseError for what Concourse would read otherwise, or not start with."""
    url = urlsplit(wish.external_url)
    if url.scheme not in (("https",) if wish.tls else ("http", "https")) or not url.netloc:
        kind = "an https address, as TLS is on" if wish.tls else "an http(s) address"
        raise ConcourseError(f"the external URL {wish.external_url!r} is not {kind}")
    if len(set(wish.ports)) < len(wish.ports):
        ports = ", ".join(map(str, wish.ports))
        raise ConcourseError(
            f"web-port={wish.port}: the web can't listen twice on one port: {ports}"
        )
    if wish.postgres.sslmode not in SSL_MODES:
        raise ConcourseError(f"{wish.postgres.sslmode!r} is none of {', '.join(SSL_MODES)}")
    for strategy in wish.placement:
        if strategy not in STRATEGIES:
            raise ConcourseError(f"{strategy!r} is none of {', '.join(STRATEGIES)}")
    _check_users(wish)


def _check_users(wish: WebWish) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", wish.admin_user):
        raise ConcourseError(f"{wish.admin_user!r} can't be a user's name")
    if not re.fullmatch(r"[^\s,]+", wish.secrets.admin_password):
        raise ConcourseError("the admin's password is empty, or holds a comma or a space")
    if len(wish.secrets.encryption_key.encode()) not in (0, 16, 32):
        raise ConcourseError("the encryption key is not 16 or 32 characters long")
    for name in wish.extra:
        if is_managed(name, MANAGED):
            raise ConcourseError(f"{name} is set by the charm")
    users = wish.extra.get(JOINED[0], "").split(",")
    if any(user.partition(":")[0].strip() == wish.admin_user for user in users):
        raise ConcourseError(f"{JOINED[0]} names {wish.admin_user}, who is the charm's")
