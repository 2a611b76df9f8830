"""Either relation to a PostgreSQL: which counts, the database's name, anything at all in it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops import testing

import database
import database_client
import database_pgsql
from conninfo import parse
from database import DatabaseTrouble, Lack
from database_fields import Malformed, certificates
from tests.unit import databases
from tests.unit.databases import (
    CA,
    META,
    METADATA,
    PASSWORD,
    Web,
    answer,
    master,
    pgsql,
    plain,
    read,
    run,
    state,
)

context = databases.context

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
    found = read(context, state(plain(), replace(plain(), id=10**6, remote_app_name="other")))
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
