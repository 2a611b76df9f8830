"""What the web learns of its PostgreSQL from either relation, and what it asks for."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ops
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ops import testing

import database
import database_client
import database_pgsql
from conninfo import parse
from database import Database, DatabaseTrouble, Lack
from database_fields import Malformed, certificates

METADATA = yaml.safe_load((Path(__file__).parents[2] / "metadata.yaml").read_text())
META = {"name": "concourse-ci-machine", "requires": METADATA["requires"]}
PASSWORD = "s3cr3t-Pa55word"
NAME = "concourse_ci_web"
MODEL = testing.Model("ci", uuid="6f1cbd6e-6b1d-4a9c-8a3f-000000000001")
# A self-signed certificate (EC, CN=unit-test-ca), good until 2126.
CA = """-----BEGIN CERTIFICATE-----
MIIBhjCCASugAwIBAgIUahNm3W8pgc/FdYVJ+Rna1dRgAzwwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMdW5pdC10ZXN0LWNhMCAXDTI2MTEyMzE1NDkwOVoYDzIxMjYx
MDMwMTU0OTA5WjAXMRUwEwYDVQQDDAx1bml0LXRlc3QtY2EwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAASh2Zd95Kuwh3Rp9Y5oAgpqO0if/igeyiq2U72wkWZ+GuWS
5QbFQNv4R0MNyZRmNBoi+/OitqWhFA0CBJ+MMWtto1MwUTAdBgNVHQ4EFgQU6ChL
HBeJZuD/nbVSiedzHbIRzUMwHwYDVR0jBBgwFoAU6ChLHBeJZuD/nbVSiedzHbIR
zUMwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAiVrdf7i/4AJ+
t9ktBgXfalIZjIoUbaHdw8ZQ0R3c5xgCIQDvr6T0B07+0UCUVWvNY6iAfGoDt26Q
IE2kVnRzzBMhZA==
-----END CERTIFICATE-----
"""


class Web(ops.CharmBase):
    """Does what the charm does on every event: asks, then reads."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        events = [self.on.config_changed, self.on.secret_changed, self.on.leader_elected]
        for name in database.RELATIONS:
            on = self.on[name]
            events += [on.relation_created, on.relation_changed, on.relation_broken]
        for event in events:
            framework.observe(event, self._on_change)

    def _on_change(self, _: ops.EventBase) -> None:
        database.request(self)
        self.found = database.read(self)


@pytest.fixture
def context() -> testing.Context[Web]:
    return testing.Context(Web, meta=META, app_name="web", unit_id=3)


def state(*relations: testing.Relation, leader: bool = True, **more: Any) -> testing.State:
    return testing.State(relations=list(relations), leader=leader, model=MODEL, **more)


def run(
    context: testing.Context[Web], given: testing.State, event: Any = None
) -> tuple[testing.State, Database | DatabaseTrouble]:
    with context(event or context.on.config_changed(), given) as manager:
        out = manager.run()
        return out, manager.charm.found


def read(context: testing.Context[Web], given: testing.State) -> Database | DatabaseTrouble:
    return run(context, given)[1]


# The interface postgresql_client


LOGIN = {"username": "relation-7", "password": PASSWORD, "uris": f"postgresql://u:{PASSWORD}@h"}


def secret(content: dict[str, str], **more: Any) -> testing.Secret:
    return testing.Secret(content, **more)


def client(login: testing.Secret | None = None, **bag: str) -> testing.Relation:
    shown = {"database": NAME, "endpoints": "10.1.2.3:5432", "version": "16.9"}
    if login:
        shown["secret-user"] = login.id
    shown.update({name.replace("_", "-"): value for name, value in bag.items()})
    return testing.Relation(
        "database",
        remote_app_name="pg16",
        remote_app_data={name: value for name, value in shown.items() if value},
    )


def plain(**bag: str) -> testing.Relation:
    return client(username="relation-7", password=bag.pop("password", PASSWORD), **bag)


def test_the_leader_asks_for_database_and_secrets_at_once(context: testing.Context[Web]) -> None:
    relation = testing.Relation("database", remote_app_name="pg16")
    created = context.on.relation_created(relation)
    out, found = run(context, state(relation), created)
    asked = out.get_relation(relation.id).local_app_data
    assert set(asked) == {"database", "requested-secrets"}
    assert asked["database"] == NAME
    # Any field that the provider writes and that isn't here would come in plain.
    assert {"username", "password", "tls", "tls-ca", "uris"} == set(
        json.loads(asked["requested-secrets"])
    )
    assert found == DatabaseTrouble(Lack.WAITING, "Waiting for the database's credentials")


def test_the_others_ask_for_nothing(context: testing.Context[Web]) -> None:
    relation = testing.Relation("database")
    out, _ = run(context, state(relation, leader=False))
    assert out.get_relation(relation.id).local_app_data == {}


def test_asking_again_changes_nothing(context: testing.Context[Web]) -> None:
    login = secret(LOGIN)
    once, first = run(context, state(client(login), secrets=[login]))
    twice, second = run(context, once)
    assert first == second
    assert once.relations == twice.relations


@pytest.mark.parametrize("leader", [True, False])
def test_credentials_come_from_the_secret(context: testing.Context[Web], leader: bool) -> None:
    login = secret(LOGIN)
    found = read(context, state(client(login), leader=leader, secrets=[login]))
    assert found == Database(
        host="10.1.2.3",
        port=5432,
        user="relation-7",
        password=PASSWORD,
        name=NAME,
        endpoints=("10.1.2.3:5432",),
    )
    assert not found.tls


def test_credentials_in_plain_are_read_too(context: testing.Context[Web]) -> None:
    login = secret(LOGIN)
    by_secret = read(context, state(client(login), secrets=[login]))
    assert read(context, state(plain())) == by_secret


def test_the_providers_name_of_the_database_counts(context: testing.Context[Web]) -> None:
    found = read(context, state(plain(database="other")))
    assert isinstance(found, Database)
    assert found.name == "other"


def test_a_rotated_password_is_read_and_followed(context: testing.Context[Web]) -> None:
    login = secret(LOGIN, latest_content={**LOGIN, "password": "the-new-one"})
    out, found = run(
        context, state(client(login), secrets=[login]), context.on.secret_changed(login)
    )
    assert isinstance(found, Database)
    assert found.password == "the-new-one"
    assert out.get_secret(id=login.id).tracked_content["password"] == "the-new-one"
    # Whatever hook comes first reads the new one, not secret-changed alone.
    assert read(context, state(client(login), secrets=[login])) == found


@pytest.mark.parametrize(
    ("endpoints", "tls", "ca", "mode"),
    [
        ("10.1.2.3:5432", "False", "", "disable"),
        ("10.1.2.3:5432", "", "", "disable"),
        ("10.1.2.3:5432", "False", CA, "disable"),
        ("10.1.2.3:5432", "True", CA, "verify-ca"),
        ("[2001:db8::1]:5432", "True", CA, "verify-ca"),
        ("pg.example:5432", "True", CA, "verify-full"),
        ("pg.example:5432", "true", CA, "verify-full"),
        ("pg.example:5432", "True", "", "require"),
    ],
)
def test_the_server_is_verified_as_far_as_it_can_be(
    context: testing.Context[Web], endpoints: str, tls: str, ca: str, mode: str
) -> None:
    encryption = secret({"tls": tls, "tls-ca": ca})
    relation = plain(endpoints=endpoints, secret_tls=encryption.id)
    found = read(context, state(relation, secrets=[encryption]))
    assert isinstance(found, Database)
    assert found.sslmode == mode
    assert found.tls == (mode != "disable")
    assert found.ca == ca


def test_a_chain_keeps_its_certificates_and_loses_the_rest() -> None:
    chain = f"subject=CN = x\n{CA}\nissuer=y\n{CA.replace(chr(10), chr(13) + chr(10))}"
    assert certificates("tls-ca", chain) == CA + CA


@pytest.mark.parametrize(
    ("endpoints", "host", "port", "all_of_them"),
    [
        ("10.0.0.2:5432,10.0.0.1:5433", "10.0.0.1", 5433, ("10.0.0.1:5433", "10.0.0.2:5432")),
        (" b:1 , a:2 ", "a", 2, ("a:2", "b:1")),
        ("a:1,a:1", "a", 1, ("a:1",)),
        ("[2001:db8::1]:6432", "2001:db8::1", 6432, ("[2001:db8::1]:6432",)),
        ("2001:db8::1:6432", "2001:db8::1", 6432, ("[2001:db8::1]:6432",)),
    ],
)
def test_endpoints_in_any_order_give_one_host(
    context: testing.Context[Web], endpoints: str, host: str, port: int, all_of_them: tuple[str]
) -> None:
    found = read(context, state(plain(endpoints=endpoints)))
    assert isinstance(found, Database)
    assert (found.host, found.port, found.endpoints) == (host, port, all_of_them)


@pytest.mark.parametrize(
    ("bag", "message"),
    [
        ({"username": "u"}, "Waiting for the database's credentials"),
        ({"password": PASSWORD}, "Waiting for the database's credentials"),
        ({"secret_user": "secret:cvq1mrq7s4mc7b0000zz"}, "Waiting for the database's credentials"),
        (
            {"username": "u", "password": PASSWORD, "secret_tls": "secret:cvq1mrq7s4mc7b0000zz"},
            "Waiting for the database's credentials",
        ),
        (
            {"username": "u", "password": PASSWORD, "endpoints": ""},
            "Waiting for the database's primary",
        ),
        (
            {"username": "u", "password": PASSWORD, "subordinated": "true"},
            "Waiting for the database's proxy on this machine",
        ),
    ],
    ids=["no password", "no user", "not granted", "TLS not granted", "no primary", "no proxy"],
)
def test_what_is_missing_is_waited_for(
    context: testing.Context[Web], bag: dict[str, str], message: str
) -> None:
    found = read(context, state(client(**bag)))
    assert found == DatabaseTrouble(Lack.WAITING, message)
    assert not found.blocked


def test_a_proxy_on_this_machine_is_used_once_it_is_ready(context: testing.Context[Web]) -> None:
    relation = replace(plain(subordinated="true"), remote_units_data={0: {"state": "ready"}})
    assert isinstance(read(context, state(relation)), Database)


@pytest.mark.parametrize(
    ("bag", "problem"),
    [
        ({"endpoints": "10.1.2.3"}, "endpoints holds no host name or address"),
        ({"endpoints": "10.1.2.3:"}, "endpoints holds no port"),
        ({"endpoints": "10.1.2.3:0"}, "endpoints holds no port"),
        ({"endpoints": "10.1.2.3:65536"}, "endpoints holds no port"),
        ({"endpoints": "10.1.2.3:٥"}, "endpoints holds no port"),
        ({"endpoints": "10.1.2.3:5432,"}, "endpoints holds no host name or address"),
        ({"endpoints": ":5432"}, "endpoints holds no host name or address"),
        ({"endpoints": "/run/postgresql:5432"}, "endpoints holds no host name or address"),
        ({"endpoints": "-h:5432"}, "endpoints holds no host name or address"),
        ({"endpoints": "a b:5432"}, "endpoints holds no host name or address"),
        ({"endpoints": "[fe80::1%lo]:5432"}, "endpoints holds no host name or address"),
        ({"endpoints": "[pg.example]:5432"}, "endpoints holds no host name or address"),
        (
            {"endpoints": f"postgresql://u:{PASSWORD}@h:5432"},
            "endpoints holds no host name or address",
        ),
        ({"endpoints": "h:1," * 99 + "h:1"}, "endpoints holds too many hosts"),
        ({"password": PASSWORD + "\n"}, "password holds a control character"),
        ({"password": PASSWORD + "\0"}, "password holds a control character"),
        ({"password": PASSWORD + "\ud800"}, "password holds a control character"),
        ({"password": PASSWORD * 999}, "password is too long"),
        ({"database": "x" * 64}, "database is too long"),
        ({"secret_user": PASSWORD}, "secret-user is not a secret"),
        ({"secret_user": "--label=x"}, "secret-user is not a secret"),
        ({"secret_tls": f"secret:{PASSWORD} "}, "secret-tls is not a secret"),
        ({"tls": PASSWORD}, "tls is neither True nor False"),
        ({"tls": "True", "tls_ca": PASSWORD}, "tls-ca holds no PEM certificates"),
        ({"tls": "True", "tls_ca": CA * 33}, "tls-ca holds no PEM certificates"),
        ({"tls": "True", "tls_ca": CA[:90] + CA[95:]}, "tls-ca holds a broken certificate"),
    ],
)
def test_hostile_data_is_refused_by_field_and_never_shown(
    context: testing.Context[Web],
    bag: dict[str, str],
    problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    found = read(context, state(plain(**bag)))
    assert found == DatabaseTrouble(
        Lack.MALFORMED, f"pg16 gives web:database no usable data: {problem}"
    )
    assert found.blocked
    assert PASSWORD not in repr(found) + caplog.text + repr(context.juju_log)


def test_nothing_shows_a_password(
    context: testing.Context[Web], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login = secret(LOGIN)
    found = read(context, state(client(login), secrets=[login]))
    assert isinstance(found, Database)
    assert PASSWORD not in f"{found!r} {found} {caplog.text} {context.juju_log}"


# The legacy interface pgsql


def master(host: str = "10.1.2.3", password: str = PASSWORD, **more: str) -> str:
    pairs = {"host": host, "dbname": NAME, "port": "5432", "user": "relation-9", **more}
    return f"password='{password}' " + " ".join(
        f"{key}={value}" for key, value in pairs.items() if value
    )


def answer(connection: str | None = None, **more: str) -> dict[str, str]:
    bag = {
        "allowed-subnets": "192.0.2.0/32",
        "allowed-units": "web/3",
        "database": NAME,
        "master": master() if connection is None else connection,
        "password": PASSWORD,
        "standbys": "",
        "state": "standalone",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return {name: value for name, value in bag.items() if value}


def pgsql(*units: dict[str, str], **more: Any) -> testing.Relation:
    bags = dict(enumerate(units)) or {0: {}}
    return testing.Relation("postgresql", remote_app_name="pg14", remote_units_data=bags, **more)


def test_every_unit_asks_and_the_leader_for_all(context: testing.Context[Web]) -> None:
    relation = pgsql()
    out, found = run(context, state(relation))
    asked = out.get_relation(relation.id)
    assert asked.local_app_data == {"database": NAME}
    assert asked.local_unit_data["database"] == NAME
    assert not {"roles", "extensions"} & (set(asked.local_unit_data) | set(asked.local_app_data))
    assert found == DatabaseTrouble(Lack.WAITING, "Waiting for the database's credentials")
    out, _ = run(context, state(relation, leader=False))
    asked = out.get_relation(relation.id)
    assert asked.local_app_data == {}
    assert asked.local_unit_data["database"] == NAME


def test_the_connection_string_is_taken_apart(context: testing.Context[Web]) -> None:
    found = read(context, state(pgsql(answer())))
    assert found == Database(
        host="10.1.2.3",
        port=5432,
        user="relation-9",
        password=PASSWORD,
        name=NAME,
        sslmode="prefer",
        endpoints=("10.1.2.3:5432",),
    )
    assert PASSWORD not in repr(found)


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (master(port=""), {"port": 5432}),
        (master(sslmode="require"), {"sslmode": "require"}),
        (master(sslmode="verify-full"), {"sslmode": "verify-full"}),
        (master(sslmode="allow"), {"sslmode": "prefer"}),
        (master(sslmode="disable"), {"sslmode": "disable"}),
        (master(password=r"a\' b\\"), {"password": "a' b\\"}),
        (master(host="", hostaddr="10.9.9.9"), {"host": "10.9.9.9"}),
        (f"postgresql://u:{PASSWORD}@[2001:db8::1]/d", {"host": "2001:db8::1", "port": 5432}),
        (
            f"postgresql://u:{PASSWORD}@h2:1,h1:2/d",
            {"host": "h2", "port": 1, "endpoints": ("h2:1", "h1:2")},
        ),
        (f"postgresql://u:{PASSWORD}@h2,h1/d?port=7", {"endpoints": ("h2:7", "h1:7")}),
    ],
)
def test_all_that_libpq_takes_is_taken(
    context: testing.Context[Web], connection: str, expected: dict[str, object]
) -> None:
    found = read(context, state(pgsql(answer(connection))))
    assert isinstance(found, Database)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("more", "admitted"),
    [
        ({}, True),
        ({"allowed_subnets": ""}, True),
        ({"allowed_units": ""}, True),
        ({"allowed_units": "", "allowed_subnets": "192.0.2.0/24, 10.0.0.0/8"}, True),
        ({"allowed_units": "", "allowed_subnets": "192.0.2.1/32"}, False),
        ({"allowed_units": "", "allowed_subnets": "2001:db8::/32"}, False),
        ({"allowed_units": "", "allowed_subnets": "nonsense"}, False),
        ({"allowed_units": "web/33 web/1", "allowed_subnets": ""}, False),
        ({"allowed_units": "", "allowed_subnets": ""}, False),
    ],
)
def test_the_string_counts_once_this_unit_is_let_in(
    context: testing.Context[Web], more: dict[str, str], admitted: bool
) -> None:
    found = read(context, state(pgsql(answer(**more))))
    if admitted:
        assert isinstance(found, Database)
        return
    message = "Waiting for the database to let this unit in"
    assert found == DatabaseTrouble(Lack.WAITING, message)


def test_every_subnet_of_ours_must_be_let_in(context: testing.Context[Web]) -> None:
    relation = replace(
        pgsql(answer(allowed_units="")),
        local_unit_data={"egress-subnets": "192.0.2.0/32,198.51.100.0/24"},
    )
    found = read(context, state(relation))
    assert isinstance(found, DatabaseTrouble)
    assert found.lack is Lack.WAITING


def test_a_database_made_before_it_knew_the_name_is_not_ours(
    context: testing.Context[Web],
) -> None:
    found = read(context, state(pgsql(answer(database="web"))))
    assert found == DatabaseTrouble(Lack.WAITING, "Waiting for the database's credentials")


def test_after_a_move_the_primarys_own_word_counts(context: testing.Context[Web]) -> None:
    stale = answer(master("10.0.0.1"), state="hot standby")
    fresh = answer(master("10.0.0.2"), state="master")
    for units in ([stale, fresh], [fresh, stale]):
        found = read(context, state(pgsql(*units)))
        assert isinstance(found, Database)
        assert found.host == "10.0.0.2"


def test_an_application_can_answer_for_its_units(context: testing.Context[Web]) -> None:
    found = read(context, state(pgsql(remote_app_data=answer())))
    assert isinstance(found, Database)


@pytest.mark.parametrize(
    ("connection", "problem"),
    [
        (PASSWORD, "master has a parameter without a name or a value"),
        (f"password='{PASSWORD}", "master has an unterminated quote"),
        (master(host=""), "master: host holds no host name or address"),
        (master(host="/run/postgresql"), "master: host holds no host name or address"),
        (master(host="a,b", port="1,2,3"), "master: port doesn't fit the hosts"),
        (master(port="0"), "master: port holds no port"),
        (master(port=PASSWORD), "master: port holds no port"),
        (master(password=""), "master: password is empty"),
        (master(password=PASSWORD + "\n"), "master: password holds a control character"),
        (master(user=""), "master: user is empty"),
        (master(dbname=""), "master: dbname is empty"),
        (master(dbname="x" * 64), "master: dbname is too long"),
        (master(sslmode=PASSWORD), "master: sslmode is none that libpq knows"),
        (master(options="x" * 20000), "master is too long"),
    ],
)
def test_a_hostile_string_is_refused_by_field_and_never_shown(
    context: testing.Context[Web],
    connection: str,
    problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    found = read(context, state(pgsql(answer(connection))))
    assert found == DatabaseTrouble(
        Lack.MALFORMED, f"pg14 gives web:postgresql no usable data: {problem}"
    )
    assert PASSWORD not in repr(found) + caplog.text + repr(context.juju_log)


# Either


def test_without_a_relation_the_status_says_which_to_make(context: testing.Context[Web]) -> None:
    message = "No database: juju relate web:database postgresql:database"
    found = read(context, state())
    assert found == DatabaseTrouble(Lack.UNRELATED, message)
    assert found.blocked


def test_with_both_none_is_asked_or_read(context: testing.Context[Web]) -> None:
    new, old = plain(), pgsql(answer())
    out, found = run(context, state(new, old))
    assert found == DatabaseTrouble(
        Lack.TWICE,
        "Related to two databases: juju remove-relation web:database pg16, or web:postgresql pg14",
    )
    assert found.blocked
    assert out.get_relation(new.id).local_app_data == {}
    assert "database" not in out.get_relation(old.id).local_unit_data


def test_two_of_one_kind_are_two_as_well(context: testing.Context[Web]) -> None:
    found = read(context, state(plain(), replace(plain(), id=99, remote_app_name="other")))
    assert isinstance(found, DatabaseTrouble)
    assert found.lack is Lack.TWICE


@pytest.mark.parametrize("relation", [plain(), pgsql(answer())], ids=["database", "postgresql"])
def test_a_relation_that_is_being_broken_is_none(
    context: testing.Context[Web], relation: testing.Relation
) -> None:
    _, found = run(context, state(relation), context.on.relation_broken(relation))
    assert isinstance(found, DatabaseTrouble)
    assert found.lack is Lack.UNRELATED


def test_both_endpoints_are_in_the_metadata() -> None:
    endpoints = METADATA["requires"]
    assert endpoints[database_client.RELATION]["interface"] == "postgresql_client"
    assert endpoints[database_pgsql.RELATION]["interface"] == "pgsql"
    for name in database.RELATIONS:
        assert endpoints[name]["optional"] is True
        assert endpoints[name]["limit"] == 1


# The database's name


@dataclass(frozen=True)
class Named:
    name: str


@dataclass(frozen=True)
class Charm:
    """What of a charm the name depends on."""

    app: Named
    model: Named


def name_of(model: str, app: str) -> str:
    charm: Any = Charm(Named(app), Named(model))
    return database.database_name(charm)


JUJU_NAME = st.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*", fullmatch=True)


@given(JUJU_NAME.filter(lambda name: len(name) < 80), JUJU_NAME)
def test_the_databases_name_fits_charmed_postgresql(model: str, app: str) -> None:
    name = name_of(model, app)
    assert re.fullmatch(r"concourse_[a-z0-9_]{1,39}", name)
    assert name == name_of(model, app)


def test_long_names_stay_apart() -> None:
    long = "a-model-with-a-name-that-goes-on-and-on-and-on"
    assert name_of(long, "web-1") != name_of(long, "web-2")
    assert len(name_of(long, "web-1")) == 49


# Anything at all


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "endpoints",
                "username",
                "password",
                "tls",
                "tls-ca",
                "database",
                "secret-user",
                "secret-tls",
                "subordinated",
            ]
        ),
        st.text(max_size=60),
    )
)
def test_any_bag_is_read_refused_or_waited_for(bag: dict[str, str]) -> None:
    context = testing.Context(Web, meta=META, app_name="web", unit_id=3)
    shown = {name: value for name, value in bag.items() if value}
    relation = testing.Relation("database", remote_app_data=shown)
    found = read(context, state(relation))
    if isinstance(found, DatabaseTrouble):
        assert found.lack in (Lack.WAITING, Lack.MALFORMED)
        assert found.message.isprintable()


@given(st.text(max_size=80))
def test_any_certificates_are_read_or_refused(content: str) -> None:
    for value in (content, CA + content, CA[:40] + content + CA[40:]):
        with suppress(Malformed):
            assert certificates("tls-ca", value).startswith("-----BEGIN") or not value.strip()


def test_the_helper_of_these_tests_writes_what_libpq_reads() -> None:
    assert parse(master())["password"] == PASSWORD
