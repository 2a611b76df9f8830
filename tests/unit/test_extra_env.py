from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concourse.environment import parse as parse_file
from concourse.environment import quoted
from concourse.extra_env import WORKER_MANAGED, parse, secret_env
from concourse.web_environment import MANAGED
from tests.unit.systemd_env import read_environment_file


def test_lines_comments_and_spaces() -> None:
    text = """
    # users of GitHub
    CONCOURSE_GITHUB_CLIENT_ID=abc
    CONCOURSE_MAIN_TEAM_GITHUB_TEAM = org:team, org:other\t
    CONCOURSE_VAULT_AUTH_PARAM=role_id:x=y,a:#b
    """
    assert parse(text, MANAGED) == {
        "CONCOURSE_GITHUB_CLIENT_ID": "abc",
        "CONCOURSE_MAIN_TEAM_GITHUB_TEAM": "org:team, org:other",
        "CONCOURSE_VAULT_AUTH_PARAM": "role_id:x=y,a:#b",
    }
    assert parse("", MANAGED) == {}
    assert parse("CONCOURSE_A=1\r\nCONCOURSE_B=2\r\n", ()) == {
        "CONCOURSE_A": "1",
        "CONCOURSE_B": "2",
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "web-env, line 1 has no =: each line is CONCOURSE_KEY=value"),
        ("\n\nPATH=/x", "web-env, line 3: 'PATH' is no variable of Concourse"),
        ("LD_PRELOAD=/x", "is no variable of Concourse"),
        ("export CONCOURSE_A=b", "is no variable of Concourse"),
        ("concourse_a=b", "is no variable of Concourse"),
        ("CONCOURSE_=b", "is no variable of Concourse"),
        ("CONCOURSE_Ä=b", "is no variable of Concourse"),
        ("CONCOURSE_A=", "line 1: CONCOURSE_A has no value"),
        ("CONCOURSE_A='x'", "CONCOURSE_A has a value in quotes: write it without"),
        ('CONCOURSE_A="x"', "CONCOURSE_A has a value in quotes: write it without"),
        ("CONCOURSE_A=1\nCONCOURSE_A=1", "line 2: CONCOURSE_A is there twice"),
        ("CONCOURSE_A=x\x00y", "CONCOURSE_A holds a line break or another control"),
        ("CONCOURSE_A=x\ufffey", "CONCOURSE_A holds a line break or another control"),
        ("CONCOURSE_A=" + "x" * 40_000, "CONCOURSE_A is longer than 32768 bytes"),
        ("CONCOURSE_A=" + "\U0001f600" * 8193, "CONCOURSE_A is longer than 32768 bytes"),
        (
            "\n".join(f"CONCOURSE_A{number}={'x' * 32_000}" for number in range(17)),
            "web-env is longer than 524288 bytes in all",
        ),
        ("CONCOURSE_POSTGRES_HOST=x", "CONCOURSE_POSTGRES_HOST is set by the charm"),
        ("CONCOURSE_ENCRYPTION_KEY_HEX=x", "CONCOURSE_ENCRYPTION_KEY_HEX is set by the charm"),
        ("CONCOURSE_TSA_BIND_PORT=x", "CONCOURSE_TSA_BIND_PORT is set by the charm"),
    ],
)
def test_each_mistake_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse(text, MANAGED)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


def test_the_option_is_named() -> None:
    with pytest.raises(ValueError, match="worker-env, line 1: CONCOURSE_GARDEN_BIN is set by"):
        parse("CONCOURSE_GARDEN_BIN=x", WORKER_MANAGED, option="worker-env")


def test_keys_of_a_secret() -> None:
    content = {
        "github-client-secret": "s3cret\n",
        "add-local-user": "bob:pw",
        "concourse-vault-client-token": "t",
        "x-frame-options": "'deny'",
    }
    assert secret_env(content, MANAGED) == {
        "CONCOURSE_GITHUB_CLIENT_SECRET": "s3cret",
        "CONCOURSE_ADD_LOCAL_USER": "bob:pw",
        "CONCOURSE_VAULT_CLIENT_TOKEN": "t",
        "CONCOURSE_X_FRAME_OPTIONS": "'deny'",
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"postgres-password": "s3cret"}, "CONCOURSE_POSTGRES_PASSWORD is set by the charm"),
        ({"A": "s3cret"}, "key 'A' is not like github-client-secret"),
        ({"a--b": "s3cret"}, "is not like github-client-secret"),
        ({"a-b": "s3cret\nx"}, "CONCOURSE_A_B holds a line break"),
        (
            {f"a-b{number}": "s3cret" * 5000 for number in range(20)},
            "^web-secret-env is longer than 524288 bytes in all$",
        ),
        ({"a-b": ""}, "CONCOURSE_A_B has no value"),
        ({"a-b": "s3cret", "concourse-a-b": "s3cret"}, "CONCOURSE_A_B is there twice"),
    ],
)
def test_each_mistake_in_a_secret_is_one_sentence_without_it(
    content: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        secret_env(content, MANAGED)
    assert "s3cret" not in str(caught.value)


NAMES = st.from_regex(r"CONCOURSE_[A-Z]{1,5}", fullmatch=True)


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=("Cc", "Cs"))), max_size=5))
def test_what_is_taken_reaches_the_process_as_it_was_written(given_values: dict[str, str]) -> None:
    text = "\n".join(f"{name}={value}" for name, value in given_values.items())
    try:
        found = parse(text, ())
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - what isn't refused is what this is about
        return
    assert found == {name: value.strip(" \t") for name, value in given_values.items()}
    written = "".join(f"{name}={quoted(value)}\n" for name, value in found.items())
    assert parse_file(written) == read_environment_file(written) == found


@given(st.text())
def test_no_text_breaks_out_of_its_variable(text: str) -> None:
    try:
        found = parse(text, MANAGED)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    written = "".join(f"{name}={quoted(value)}\n" for name, value in found.items())
    assert read_environment_file(written + 'AFTER="x"\n') == {**found, "AFTER": "x"}


@given(st.dictionaries(st.from_regex(r"[a-z](-?[a-z0-9]){2,8}", fullmatch=True), st.text()))
def test_no_secret_breaks_out_of_its_variable(content: dict[str, str]) -> None:
    try:
        found = secret_env(content, MANAGED)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    written = "".join(f"{name}={quoted(value)}\n" for name, value in found.items())
    assert parse_file(written) == read_environment_file(written) == found
