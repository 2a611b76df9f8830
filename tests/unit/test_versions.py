from __future__ import annotations

import pytest

from concourse.versions import may_switch, newest


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ("", "8.3.0"),
        ("8.3.0", "8.3.0"),
        ("8.3.0", "8.3.1"),
        ("8.3.1", "8.3.0"),
        ("8.2.5", "8.3.0"),
        ("7.14.3", "8.0.0"),
        ("8.9.0", "8.10.0"),
    ],
)
def test_what_the_schema_allows(now: str, wanted: str) -> None:
    assert may_switch(now, wanted) == ""


@pytest.mark.parametrize(
    ("now", "wanted"), [("8.3.0", "8.2.5"), ("8.10.0", "8.9.9"), ("9.0.0", "8.99.0")]
)
def test_an_older_schema_is_refused(now: str, wanted: str) -> None:
    assert may_switch(now, wanted) == (
        f"concourse-version={wanted} is older than the {now} that the database was migrated "
        f"for: set {now} or newer"
    )


@pytest.mark.parametrize("text", ["8.3", "v8.3.0", "8.3.0-rc.1", "٨.3.0", "8.3.0\n"])
def test_what_is_no_release(text: str) -> None:
    with pytest.raises(ValueError, match="is no release"):
        may_switch("8.3.0", text)


def test_the_newest_of_some_releases() -> None:
    assert newest("8.9.9", "8.10.0", "", "adopted", "8.2.0-rc.1") == "8.10.0"
    assert newest() == newest("adopted") == ""
