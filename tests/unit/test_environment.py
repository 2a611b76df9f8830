"""Environment files: every value reaches the process as it is, and no text breaks out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concourse.environment import parse, quoted, unfit
from concourse.errors import ConcourseError
from tests.unit.systemd_env import NO_CHARACTERS, read_environment_file

HOSTILE = [
    "plain",
    "",
    'quo"te',
    "single'quote",
    "back\\slash\\",
    "\\n",
    "$HOME ${PATH} `id` $(id)",
    "# no comment",
    "; nor this",
    "  spaces  ",
    "tab\there",
    "%h %%",
    "ünïcode ✓",
    "a=b",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_any_value_reaches_the_process_as_it_is(value: str) -> None:
    text = f"A={quoted(value)}\nB={quoted('after')}\n"
    assert read_environment_file(text) == {"A": value, "B": "after"}
    assert parse(text) == {"A": value, "B": "after"}


@given(
    st.text(
        st.characters(
            exclude_categories=("Cc", "Cs"), exclude_characters="".join(map(chr, NO_CHARACTERS))
        )
    )
)
def test_no_text_breaks_out_of_its_variable(value: str) -> None:
    assert not unfit(value)
    text = f"A={quoted(value)}\nB={quoted('after')}\n"
    assert read_environment_file(text) == {"A": value, "B": "after"}


@pytest.mark.parametrize(
    "value", [*"\n\r\0\x1b\x7f\udc80\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff"]
)
def test_what_systemd_would_drop_is_refused(value: str) -> None:
    with pytest.raises(ConcourseError, match="a setting holds"):
        quoted(f"a{value}b")
