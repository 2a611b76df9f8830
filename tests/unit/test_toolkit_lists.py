"""When the list of NVIDIA's repository is fetched, and when what apt has is good enough."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from gpu import repository, toolkit
from gpu.errors import GpuError
from gpu.toolkit import PACKAGES, ToolkitWish
from host import Layout
from tests.unit.fake_apt import FakeApt
from tests.unit.toolkit_roots import KEY, URL, VERSIONS, armoured, ensure_toolkit, write

WISH = ToolkitWish("1.20.0", URL, KEY)


def listed(layout: Layout, name: str = "Packages") -> Path:
    """Put a list of the repository where apt keeps what it fetched."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    flat = f"{URL}/{architecture}".removeprefix("https://").replace("/", "_")
    return write(layout, f"/var/lib/apt/lists/{flat}_._{name}", "")


def test_a_list_that_came_with_all_others_is_not_fetched_again(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    toolkit.prepare(layout, WISH)
    assert layout.at(repository.SOURCE).exists()
    assert fake.changing() == []
    fake.offer(*PACKAGES, versions=VERSIONS)
    listed(layout)
    assert ensure_toolkit(layout, WISH, said.append)
    assert fake.changing() == ["download", "unpack"]


def test_a_list_from_before_another_key_or_without_the_version_is_fetched_anew(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    fake.offer(*PACKAGES, versions=VERSIONS)
    for name in ("Packages", "InRelease"):  # the first is older than the source
        file = listed(layout, name)
        assert ensure_toolkit(layout, WISH, said.append)
        assert fake.changing() == ["update", "download", "unpack"]
        file.unlink()
        fake.install(*PACKAGES, version="1.18.2-1")
        fake.forget_calls()
    listed(layout)
    assert ensure_toolkit(layout, replace(WISH, repository_key=armoured(b"2")), said.append)
    assert fake.changing() == ["update", "download", "unpack"]
    fake.forget_calls()
    listed(layout)
    with pytest.raises(GpuError, match="1.19.0 is not in the repository"):
        ensure_toolkit(layout, replace(WISH, version="1.19.0"), said.append)
    assert fake.changing() == ["update"]


def test_nothing_is_prepared_for_what_is_there_or_cannot_be(layout: Layout, fake: FakeApt) -> None:
    toolkit.prepare(layout, replace(WISH, repository_key="no key"))
    fake.install(*PACKAGES, version="1.20.0-1")
    toolkit.prepare(layout, WISH)
    assert not layout.at(repository.SOURCE).exists()
