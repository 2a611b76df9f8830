"""What the web asks of a PostgreSQL over postgresql_client, and reads there."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from ops import testing

from database import Database, DatabaseTrouble, Lack
from database_fields import certificates
from tests.unit import databases
from tests.unit.databases import CA, NAME, PASSWORD, Web, client, plain, read, run, state

context = databases.context

LOGIN = {"username": "relation-7", "password": PASSWORD, "uris": f"postgresql://u:{PASSWORD}@h"}


def secret(content: dict[str, str], **more: Any) -> testing.Secret:
    return testing.Secret(content, **more)


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
        ({"password": PASSWORD + "\ufffe"}, "password holds a control character"),
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
