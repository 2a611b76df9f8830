"""What is read from either relation opens a real PostgreSQL, also after a change."""

from __future__ import annotations

import ctypes
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ops
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import testing

import conninfo
import database
from concourse.sslmode import settle
from database import Database
from host import CommandError
from tests.functional.postgresql import Authority, Server, psql

METADATA = yaml.safe_load((Path(__file__).parents[2] / "metadata.yaml").read_text())
MODEL = testing.Model("ci")
NAME = "concourse_ci_web"
USER = "relation-7"
PASSWORD = 'it\'s a \\ "pass" word=1 @:/?%41 é#$HOME `id`'
CONTEXT = (
    "SELECT current_user, current_database(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
)


class Web(ops.CharmBase):
    """Asks and reads on every event."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        for event in (self.on.update_status, self.on.secret_changed):
            framework.observe(event, self._on_change)

    def _on_change(self, _: ops.EventBase) -> None:
        database.request(self)
        self.found = database.read(self)


def read(
    relation: testing.Relation, *secrets: testing.Secret, changed: testing.Secret | None = None
) -> Database:
    """What the charm makes of a relation."""
    meta = {"name": "concourse-ci-machine", "requires": METADATA["requires"]}
    context = testing.Context(Web, meta=meta, app_name="web", unit_id=0)
    event: Any = context.on.secret_changed(changed) if changed else context.on.update_status()
    state = testing.State(relations=[relation], secrets=list(secrets), leader=True, model=MODEL)
    with context(event, state) as manager:
        manager.run()
        found = manager.charm.found
    assert isinstance(found, Database), found
    return found


def login(password: str = PASSWORD) -> testing.Secret:
    return testing.Secret({"username": USER, "password": password})


def client(endpoints: str, user: testing.Secret, tls: testing.Secret | None = None) -> Any:
    bag = {"database": NAME, "endpoints": endpoints, "secret-user": user.id}
    if tls:
        bag["secret-tls"] = tls.id
    return testing.Relation("database", remote_app_name="pg", remote_app_data=bag)


def legacy(server: Server, password: str = PASSWORD, **more: str) -> Any:
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    master = (
        f"dbname={NAME} host={server.address} password='{quoted}' port={server.port} user={USER}"
    )
    bag = {
        "master": " ".join([master, *(f"{key}={value}" for key, value in more.items())]),
        "allowed-units": "web/0",
        "database": NAME,
        "state": "standalone",
    }
    return testing.Relation("postgresql", remote_app_name="pg", remote_units_data={0: bag})


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="database-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server() -> Iterator[Server]:
    """A PostgreSQL without TLS, with what it made for the relation."""
    one = Server()
    try:
        one.create().add_role(USER, PASSWORD, NAME)
        yield one
    finally:
        one.remove()


@pytest.fixture
def authority(scratch: Path) -> Authority:
    return Authority(scratch / "authority").make()


@pytest.fixture
def encrypted(authority: Authority) -> Iterator[Server]:
    """A PostgreSQL that lets nobody in without TLS; its certificate is for "localhost"."""
    one = Server()
    try:
        one.create(tls=authority.sign("localhost")).add_role(USER, PASSWORD, NAME)
        yield one
    finally:
        one.remove()


def connect(found: Database, scratch: Path, statement: str = CONTEXT) -> str:
    """Connect as told, with libpq."""
    mode = settle(found.sslmode, found.host, found.port)
    assert mode
    ca = scratch / "ca.pem"
    ca.write_text(found.ca)
    environment = {
        "PGHOST": found.host,
        "PGPORT": str(found.port),
        "PGUSER": found.user,
        "PGPASSWORD": found.password,
        "PGDATABASE": found.name,
        "PGSSLMODE": mode,
        "PGSSLROOTCERT": str(ca) if found.ca else str(scratch / "none"),
    }
    return psql(environment, statement)


def test_the_credentials_of_the_secret_open_it(server: Server, scratch: Path) -> None:
    user = login()
    found = read(client(server.endpoint, user), user)
    assert found.sslmode == "disable"
    assert connect(found, scratch) == f"{USER}|{NAME}|f"
    connect(found, scratch, "CREATE TABLE builds (id int); INSERT INTO builds VALUES (1);")
    with pytest.raises(CommandError, match="password authentication failed"):
        connect(replace(found, password="another"), scratch)


def test_a_rotated_password_opens_it_and_the_old_one_no_longer(
    server: Server, scratch: Path
) -> None:
    user = login()
    before = read(client(server.endpoint, user), user)
    server.set_password(USER, "the new one's")
    with pytest.raises(CommandError, match="password authentication failed"):
        connect(before, scratch)
    rotated = replace(user, latest_content={"username": USER, "password": "the new one's"})
    after = read(client(server.endpoint, rotated), rotated, changed=rotated)
    assert connect(after, scratch) == f"{USER}|{NAME}|f"
    assert after != before


def test_the_web_follows_a_primary_that_moved(server: Server, scratch: Path) -> None:
    other = Server(address="127.0.0.2")
    try:
        other.copy_of(server)
        user = login()
        before = read(client(server.endpoint, user), user)
        connect(before, scratch, "CREATE TABLE builds (id int); INSERT INTO builds VALUES (7);")
        other.catch_up(server)
        server.stop()
        other.promote()
        with pytest.raises(CommandError) as caught:
            connect(before, scratch)
        assert "Connection refused" in caught.value.output
        after = read(client(other.endpoint, user), user)
        assert (after.host, after.port) == ("127.0.0.2", other.port)
        assert connect(after, scratch, "INSERT INTO builds VALUES (8); TABLE builds;") == "7\n8"
        assert connect(read(legacy(other)), scratch) == f"{USER}|{NAME}|f"
    finally:
        other.remove()


def encryption(ca: str) -> testing.Secret:
    return testing.Secret({"tls": "True", "tls-ca": ca})


def test_an_address_is_verified_by_its_authority(
    encrypted: Server, authority: Authority, scratch: Path
) -> None:
    user, tls = login(), encryption(authority.ca)
    found = read(client(encrypted.endpoint, user, tls), user, tls)
    assert found.sslmode == "verify-ca"
    assert connect(found, scratch) == f"{USER}|{NAME}|t"
    # Why not more: the certificate is for a name, the endpoint is an address.
    with pytest.raises(CommandError, match="does not match host name"):
        connect(replace(found, sslmode="verify-full"), scratch)


def test_a_name_is_verified_in_full(encrypted: Server, authority: Authority, scratch: Path) -> None:
    user, tls = login(), encryption(authority.ca)
    found = read(client(f"localhost:{encrypted.port}", user, tls), user, tls)
    assert found.sslmode == "verify-full"
    assert connect(found, scratch) == f"{USER}|{NAME}|t"


def test_a_server_of_another_authority_gets_no_password(encrypted: Server, scratch: Path) -> None:
    other = Authority(scratch / "other").make()
    user, tls = login(), encryption(other.ca)
    found = read(client(encrypted.endpoint, user, tls), user, tls)
    with pytest.raises(CommandError, match="certificate verify failed"):
        connect(found, scratch)


def test_a_server_that_turned_tls_on_is_followed(
    encrypted: Server, authority: Authority, scratch: Path
) -> None:
    user, off = login(), testing.Secret({"tls": "False"})
    before = read(client(encrypted.endpoint, user, off), user, off)
    with pytest.raises(CommandError, match="no pg_hba.conf entry"):
        connect(before, scratch)
    on = replace(off, latest_content={"tls": "True", "tls-ca": authority.ca})
    after = read(client(encrypted.endpoint, user, on), user, on, changed=on)
    assert connect(after, scratch) == f"{USER}|{NAME}|t"


def test_the_legacy_connection_string_opens_it(server: Server, scratch: Path) -> None:
    found = read(legacy(server))
    assert (found.sslmode, found.password) == ("prefer", PASSWORD)
    assert settle(found.sslmode, found.host, found.port) == "disable"
    assert connect(found, scratch) == f"{USER}|{NAME}|f"


def test_the_legacy_interface_finds_tls_by_asking(encrypted: Server, scratch: Path) -> None:
    found = read(legacy(encrypted))
    assert settle(found.sslmode, found.host, found.port) == "require"
    assert connect(found, scratch) == f"{USER}|{NAME}|t"
    with pytest.raises(CommandError, match="no pg_hba.conf entry"):
        connect(read(legacy(encrypted, sslmode="disable")), scratch)


def test_no_answer_settles_nothing(server: Server) -> None:
    server.stop()
    assert settle("prefer", server.address, server.port) is None
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call, says nothing
        port = silent.getsockname()[1]
        assert settle("prefer", "127.0.0.1", port, timeout=0.2) is None
        assert settle("verify-ca", "127.0.0.1", port) == "verify-ca"


# libpq itself says what a connection string means.


class _Option(ctypes.Structure):
    _fields_ = (
        ("keyword", ctypes.c_char_p),
        ("envvar", ctypes.c_char_p),
        ("compiled", ctypes.c_char_p),
        ("val", ctypes.c_char_p),
        ("label", ctypes.c_char_p),
        ("dispchar", ctypes.c_char_p),
        ("dispsize", ctypes.c_int),
    )


@pytest.fixture(scope="module")
def libpq() -> ctypes.CDLL:
    library = ctypes.CDLL("libpq.so.5")
    library.PQconninfoParse.restype = ctypes.POINTER(_Option)
    library.PQconninfoParse.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.PQconninfoFree.argtypes = [ctypes.POINTER(_Option)]
    library.PQfreemem.argtypes = [ctypes.c_void_p]
    return library


def by_libpq(libpq: ctypes.CDLL, text: str) -> dict[str, bytes] | str:
    """Return what libpq reads, or why it refuses."""
    error = ctypes.c_void_p()
    options = libpq.PQconninfoParse(text.encode(), ctypes.byref(error))
    if not options:
        said = ctypes.string_at(error.value or 0).decode(errors="replace")
        libpq.PQfreemem(error)
        return said
    found, at = {}, 0
    while options[at].keyword is not None:
        if options[at].val is not None:
            found[options[at].keyword.decode()] = options[at].val
        at += 1
    libpq.PQconninfoFree(options)
    return found


KEYS = ("host", "hostaddr", "port", "dbname", "user", "password", "sslmode", "ssl")
PIECES = st.sampled_from(
    [*KEYS, *"'\\= \t\n\v@:/?&%#,[]+1aé\u00a0", "%20", "%41", "%00", "%ff", "%c3%a9", "::1"]
)
JUNK = st.lists(PIECES, max_size=16).map("".join)
PAIRS = st.lists(st.tuples(st.sampled_from(KEYS), JUNK), max_size=5)
STRINGS = st.one_of(
    PAIRS.map(lambda pairs: " ".join(f"{key}={value}" for key, value in pairs)),
    PAIRS.map(lambda pairs: "".join(f"{key}='{value}'" for key, value in pairs)),
    JUNK,
    st.tuples(st.sampled_from(["postgresql://", "postgres://"]), JUNK).map("".join),
    st.tuples(JUNK, JUNK, JUNK, PAIRS).map(
        lambda parts: (
            f"postgresql://{parts[0]}@{parts[1]}/{parts[2]}?"
            + "&".join(f"{key}={value}" for key, value in parts[3])
        )
    ),
)


@settings(max_examples=5000, deadline=None)
@given(STRINGS)
def test_libpq_reads_the_same(libpq: ctypes.CDLL, text: str) -> None:
    theirs = by_libpq(libpq, text)
    try:
        ours: dict[str, str] | str = conninfo.parse(text)
    except ValueError as error:
        ours = str(error)
    if isinstance(theirs, str):
        # A parameter that this libpq doesn't know is left to whoever reads the answer.
        unknown = "invalid connection option" in theirs or "invalid URI query par" in theirs
        assert isinstance(ours, str) or unknown, (theirs, ours)
        return
    if isinstance(ours, str):
        # libpq hands on bytes that aren't UTF-8; a relation can't mean them.
        assert ours == "is not UTF-8", (theirs, ours)
        return
    assert {key: value.encode() for key, value in ours.items()} == theirs
