"""What a web needs to know of its PostgreSQL, and the fields that say it.

Both interfaces (`database_client`, `database_pgsql`) read untrusted text from a relation;
here is what each field may hold.  No message repeats what a field holds, so that no
password ends up in a status or a log, wherever a provider puts it by mistake.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import unicodedata
from dataclasses import dataclass, field
from enum import Enum

from concourse.environment import unfit

# The modes that Concourse takes, and libpq's default, which it doesn't
# (flag/postgres_config.go, v8.3.0).
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", re.ASCII)
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,16384}-----END CERTIFICATE-----", re.ASCII
)
_CERTIFICATES = 32
_LONGEST = 256 * 1024


@dataclass(frozen=True)
class Database:
    """Where the web's data lives and how to get in.

    Attributes:
        host: a name or an address of the primary; an IPv6 address without brackets.
        port: its port.
        user: the role to sign in as.
        password: the role's password; never printed.
        name: the database's name.
        sslmode: one of `SSL_MODES`.  "prefer" comes from the legacy interface alone, which
            doesn't say whether the server speaks TLS; Concourse doesn't know that mode, so
            ask the server (`concourse.sslmode`).
        ca: the certificates to verify the server by, PEM; "" for none.
        endpoints: "host:port" of every read-write endpoint, `host` and `port` first.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    name: str
    sslmode: str = "disable"
    ca: str = field(default="", repr=False)
    endpoints: tuple[str, ...] = ()

    @property
    def tls(self) -> bool:
        """Whether the connection must be encrypted."""
        return self.sslmode not in ("disable", "prefer")


class Lack(Enum):
    """Why there is no database."""

    UNRELATED = "unrelated"
    TWICE = "twice"
    WAITING = "waiting"
    MALFORMED = "malformed"


@dataclass(frozen=True)
class DatabaseTrouble:
    """Why there is no database to connect to.

    Attributes:
        lack: the reason.
        message: the one sentence for the status.
    """

    lack: Lack
    message: str

    @property
    def blocked(self) -> bool:
        """Whether somebody has to do something; waiting is enough otherwise."""
        return self.lack is not Lack.WAITING


class Waiting(Exception):
    """The provider has not said everything yet; the text is the status."""


class Malformed(Exception):
    """A field holds something else than its interface says.

    Args:
        name: the field.
        problem: what is wrong with it, without its value.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")


def text(name: str, value: str, longest: int = 1024) -> str:
    """Return a user's, a password's or a database's text if a connection can carry it."""
    if not value:
        raise Malformed(name, "is empty")
    if len(value.encode(errors="replace")) > longest:
        raise Malformed(name, "is too long")
    if unfit(value) or any(unicodedata.category(char) == "Cc" for char in value):
        raise Malformed(name, "holds a control character")
    return value


def host(name: str, value: str) -> str:
    """Return a host name or an address; an IPv6 address loses its brackets."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if is_address(bare) or (bare == value and _NAME.fullmatch(value)):
        return bare
    raise Malformed(name, "holds no host name or address")


def port(name: str, value: str) -> int:
    """Return a TCP port."""
    if re.fullmatch(r"[0-9]{1,5}", value, re.ASCII) and 0 < int(value) < 65536:
        return int(value)
    raise Malformed(name, "holds no port")


def endpoint(address: str, number: int) -> str:
    """Return "host:port", an IPv6 address in brackets."""
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"


def is_address(value: str) -> bool:
    """Return whether this is an IP address, without a zone."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value


def certificates(name: str, value: str) -> str:
    """Return the certificates in a PEM text, each checked to be one; "" for an empty text.

    Text around them is dropped: a chain often comes with comments.
    """
    if not value.strip():
        return ""
    found = _CERTIFICATE.findall(value) if len(value) <= _LONGEST else []
    if not 0 < len(found) <= _CERTIFICATES:
        raise Malformed(name, "holds no PEM certificates")
    joined = "\n".join("\n".join(block.split("\r\n")) for block in found) + "\n"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=joined)
    except (ssl.SSLError, ValueError):
        raise Malformed(name, "holds a broken certificate") from None
    return joined
