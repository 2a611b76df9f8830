"""The source, the key and the pin that the charm makes, and what it leaves to others."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu import owned, repository
from gpu.download import fetch
from gpu.errors import GpuError
from gpu.toolkit import PACKAGES, ToolkitWish
from host import Layout
from tests.unit.fake_apt import FakeApt
from tests.unit.toolkit_roots import (
    KEY,
    URL,
    VERSIONS,
    armoured,
    ensure_toolkit,
    tree,
    write,
)

WISH = ToolkitWish("1.20.0", URL, KEY)


@pytest.fixture
def fake(layout: Layout) -> FakeApt:
    fake = FakeApt(layout.root)
    fake.offer(*PACKAGES, versions=VERSIONS, after_update=True)
    return fake


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/apt/sources.list", f"deb [signed-by=/k.gpg] {URL}/$(ARCH) /\n"),
        ("/etc/apt/sources.list.d/nvidia.list", f"# x\n deb {URL}/$(ARCH)/ /\n"),
        (
            "/etc/apt/sources.list.d/nvidia.sources",
            (
                "Types: deb\nURIs: https://other/\nSuites: /\n\nTypes: deb deb-src\n"
                f"URIs:\n {URL}/$(ARCH)\nSuites: ./\nSigned-By: /k.gpg\n"
            ),
        ),
    ],
)
def test_a_source_that_is_there_is_used_as_it_is(
    layout: Layout, fake: FakeApt, said: list[str], path: str, text: str
) -> None:
    file = write(layout, path, text)
    assert ensure_toolkit(layout, WISH, said.append)
    assert file.read_text() == text
    assert not layout.at(repository.SOURCE).exists()
    assert not layout.at(repository.KEYRING).exists()
    update = next(call for call in fake.calls() if call[1] == "update")
    assert f"Dir::Etc::sourcelist={file}" in update


@pytest.mark.parametrize(
    "text",
    [
        f"# deb {URL}/$(ARCH) /\n",
        f"deb-src {URL}/$(ARCH) /\n",
        f"deb {URL}-other/$(ARCH) /\n",
    ],
)
def test_other_lines_are_no_source_for_the_address(
    layout: Layout, fake: FakeApt, text: str
) -> None:
    write(layout, "/etc/apt/sources.list", text)
    disabled = f"Enabled: no\nTypes: deb\nURIs: {URL}/$(ARCH)\nSuites: /\n"
    write(layout, "/etc/apt/sources.list.d/a.sources", disabled)
    made = repository.ensure_source(layout, URL, KEY, {})
    assert made == layout.at(repository.SOURCE)


def test_the_charms_own_source_gives_way_to_one_that_comes_later(
    layout: Layout, fake: FakeApt
) -> None:
    repository.ensure_source(layout, URL, KEY, {})
    theirs = write(layout, "/etc/apt/sources.list.d/n.list", f"deb {URL}/$(ARCH) /\n")
    assert repository.ensure_source(layout, URL, KEY, {}) == theirs
    assert not layout.at(repository.SOURCE).exists()


def test_a_key_that_somebody_else_has_put_there_is_not_overwritten(layout: Layout) -> None:
    theirs = write(layout, repository.KEYRING, b"something else")
    repository.ensure_source(layout, URL, KEY, {})
    assert theirs.read_bytes() == b"something else"
    source = layout.at(repository.SOURCE).read_text()
    assert f"Signed-By: {repository.OWN_KEYRING}\n" in source
    repository.undo(layout)
    assert theirs.exists()
    assert not layout.at(repository.OWN_KEYRING).exists()


def test_a_new_key_option_replaces_the_charms_key(layout: Layout) -> None:
    repository.ensure_source(layout, URL, KEY, {})
    before = layout.at(repository.KEYRING).read_bytes()
    repository.ensure_source(layout, URL, armoured(b"2"), {})
    assert layout.at(repository.KEYRING).read_bytes() != before
    assert repository.undo(layout)
    assert not layout.at(repository.KEYRING).exists()


def test_undo_takes_away_what_the_charm_made_and_its_package_lists(layout: Layout) -> None:
    lists = "/var/lib/apt/lists"
    old = write(
        layout, f"{lists}/mirror.example_libnvidia-container_stable_deb_amd64_InRelease", ""
    )
    arm = write(
        layout, f"{lists}/mirror.example_libnvidia-container_stable_deb_arm64_InRelease", ""
    )
    other = write(layout, f"{lists}/mirror.example_other_InRelease", "")
    repository.ensure_source(layout, URL, KEY, {})
    repository.ensure_pin(layout, repository.PINS, PACKAGES, "1.20.0-*")
    owned.remember(layout, PACKAGES)
    assert repository.undo(layout)
    assert not repository.undo(layout)
    assert not old.exists() or not arm.exists()
    assert other.exists()
    left = {name for name in tree(layout) if "lists" not in name}
    assert left == {"var/lib/concourse-ci-machine/gpu/packages.json"}


def test_undo_leaves_a_key_that_was_replaced_or_is_used_by_others(layout: Layout) -> None:
    repository.ensure_source(layout, URL, KEY, {})
    line = f"deb [signed-by={repository.KEYRING}] https://other/ /\n"
    write(layout, "/etc/apt/sources.list.d/other.list", line)
    repository.undo(layout)
    assert layout.at(repository.KEYRING).exists()

    repository.ensure_source(layout, URL, KEY, {})
    write(layout, repository.KEYRING, b"replaced")
    layout.at("/etc/apt/sources.list.d/other.list").unlink()
    repository.undo(layout)
    assert layout.at(repository.KEYRING).read_bytes() == b"replaced"


def test_undo_without_anything_made_touches_nothing(layout: Layout) -> None:
    write(layout, repository.KEYRING, b"theirs")
    before = tree(layout)
    assert not repository.undo(layout)
    assert tree(layout) == before


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that it is served at."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_downloaded_key_that_is_not_nvidias_is_refused(
    layout: Layout, mirror: tuple[Path, str]
) -> None:
    folder, url = mirror
    (folder / "gpgkey").write_text(KEY)
    dead = {"https_proxy": "http://127.0.0.1:9"}  # NVIDIA's own place is out of reach here
    with pytest.raises(GpuError, match=f"the key at {url}/gpgkey isn't NVIDIA's"):
        repository.ensure_source(layout, f"{url}/stable/deb", "", dead)
    assert not layout.at(repository.KEYRING).exists()
    assert not layout.at(repository.SOURCE).exists()


def test_fetching_is_bounded_in_size_and_says_what_failed(mirror: tuple[Path, str]) -> None:
    folder, url = mirror
    (folder / "gpgkey").write_text("small")
    (folder / "big").write_bytes(os.urandom(300_000))
    assert fetch(f"{url}/gpgkey", {}) == b"small"
    assert fetch(folder.joinpath("gpgkey").as_uri(), {}) == b"small"
    with pytest.raises(GpuError, match="larger than any key"):
        fetch(f"{url}/big", {})
    with pytest.raises(GpuError, match="404"):
        fetch(f"{url}/none", {})
    dead = {"http_proxy": "http://127.0.0.1:9"}
    with pytest.raises(GpuError, match="refused"):
        fetch(f"{url}/gpgkey", dead)
    assert fetch(f"{url}/gpgkey", {**dead, "no_proxy": "localhost,127.0.0.1"}) == b"small"
