"""Connection strings are read back as they were written, in both of libpq's forms."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conninfo import parse

KEYS = ("host", "port", "dbname", "user", "password", "sslmode", "application_name")
# Quotes, backslashes, spaces and signs of either form oftener than chance has them.
TEXT = st.text(st.one_of(st.sampled_from("'\\ =\t\n@:/?&%#,[]+"), st.characters(codec="utf-8")))
VALUES = st.dictionaries(st.sampled_from(KEYS), TEXT.map(lambda text: text.replace("\0", "0")))


def quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def bare(value: str) -> str:
    """Escape whatever could end a value or begin a quote: a backslash before everything."""
    return "".join("\\" + char for char in value) or "''"


@given(VALUES, st.sampled_from([quoted, bare]), st.sampled_from(["=", " = ", "= ", "\t=\n"]))
def test_what_is_quoted_is_read_back(
    values: dict[str, str], how: Callable[[str], str], equals: str
) -> None:
    pairs = [f"{key}{equals}{how(value)}" for key, value in values.items()]
    assert parse(" ".join(pairs)) == values


@given(VALUES)
def test_what_a_uri_holds_is_read_back(values: dict[str, str]) -> None:
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in values.items())
    assert parse(f"postgresql:///?{query}") == values


@given(TEXT.filter(bool), TEXT.filter(bool), st.integers(1, 65535))
def test_a_uris_credentials_are_read_back(user: str, password: str, port: int) -> None:
    if "\0" in user + password:
        return
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    assert parse(f"postgres://{login}@db.example:{port}/atc") == {
        "user": user,
        "password": password,
        "host": "db.example",
        "port": str(port),
        "dbname": "atc",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        (" \n", {}),
        ("host=a host=b", {"host": "b"}),
        ("user='o''brien'", None),
        (r"user=o\'brien", {"user": "o'brien"}),
        ("user='a'host='b'", {"user": "a", "host": "b"}),
        ("user= host=b", {"user": "host=b"}),
        ("user=a\\", {"user": "a"}),
        ("user=a'b", {"user": "a'b"}),
        ("new_option=1", {"new_option": "1"}),
        ("postgresql://", {}),
        ("postgresql://h", {"host": "h"}),
        ("postgresql://h1:1,h2:2/d", {"host": "h1,h2", "port": "1,2", "dbname": "d"}),
        ("postgresql://[2001:db8::1]:5/d", {"host": "2001:db8::1", "port": "5", "dbname": "d"}),
        ("postgresql://u@/d", {"user": "u", "dbname": "d"}),
        ("postgresql://u:@h", {"user": "u", "host": "h"}),
        ("postgresql://h/d?sslmode=require", {"host": "h", "dbname": "d", "sslmode": "require"}),
        ("postgresql://h?user=u&", {"host": "h", "user": "u"}),
        ("postgresql://h?", {"host": "h"}),
        ("postgresql://h?ssl=true", {"host": "h", "sslmode": "require"}),
        ("postgresql://h/a%2Fb", {"host": "h", "dbname": "a/b"}),
    ],
)
def test_libpqs_corners(text: str, found: dict[str, str] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match="without a name"):
            parse(text)
    else:
        assert parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "SECRET",
        "=SECRET",
        "password='SECRET",
        "password='SECRET\\'",
        "password=SECRET\0",
        "password=SECRET user",
        "postgresql://u:SECRET%@h",
        "postgresql://u:SECRET%zz@h",
        "postgresql://u:SECRET%00@h",
        "postgresql://u:SECRET%ff@h",
        "postgresql://[SECRET",
        "postgresql://[]/SECRET",
        "postgresql://[::1]SECRET",
        "postgresql://h/d?SECRET",
        "postgresql://h/d?password=SECRET=x",
        "postgresql://h/d?&password=SECRET",
        "postgresql://u:SECRET@h/d?&",
        "postgresql://u:SECRET@h/d?a=b&&",
    ],
)
def test_what_libpq_refuses_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ValueError, match="^(has|holds|is) ") as caught:
        parse(text)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(max_size=200))
def test_anything_is_read_or_refused(text: str) -> None:
    for prefix in ("", "postgresql://", "password=x "):
        with suppress(ValueError):
            assert all(isinstance(value, str) for value in parse(prefix + text).values())
