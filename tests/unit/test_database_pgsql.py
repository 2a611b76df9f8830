"""What the web asks of a PostgreSQL over the legacy interface pgsql, and reads there."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from ops import testing

from database import Database, DatabaseTrouble, Lack
from tests.unit import databases
from tests.unit.databases import NAME, PASSWORD, Web, answer, master, pgsql, read, run, state

context = databases.context


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
