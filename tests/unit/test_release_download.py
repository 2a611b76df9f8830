"""Downloads of a release: begun, broken off, gone on with, and through proxies."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from concourse import release
from concourse.download import Limits, Reporter
from concourse.errors import ConcourseError
from concourse.release import ReleaseWish, file_name
from host import Layout
from tests.unit import releases
from tests.unit.releases import MACHINE, Site, member, pack, part, quiet, release_members

site, wish = releases.site, releases.wish

# --- downloads -------------------------------------------------------------------------


def test_download_becomes_a_complete_tree_that_is_not_current(
    layout: Layout, wish: ReleaseWish
) -> None:
    lines: list[str] = []
    tree = release.ensure_tree(layout, wish, lines.append)
    assert tree == layout.trees / "8.3.0"
    assert release.is_complete(tree)
    assert release.current(layout) is None
    assert not (layout.state / "downloads").exists()
    assert any(line.startswith("Downloading Concourse 8.3.0 (") for line in lines)
    assert all(line.endswith(" %)") for line in lines)


def test_second_call_asks_nobody(layout: Layout, wish: ReleaseWish, site: Site) -> None:
    release.ensure_tree(layout, wish, quiet)
    before = len(site.requests)
    release.ensure_tree(layout, wish, quiet)
    assert len(site.requests) == before


def test_connection_that_ends_early_is_resumed_at_once(
    layout: Layout, wish: ReleaseWish, site: Site
) -> None:
    site.cut = [1000, 2000]
    release.ensure_tree(layout, wish, quiet)
    ranges = [headers.get("range") for path, headers in site.requests if path.endswith(".tgz")]
    assert ranges == [None, "bytes=1000-", "bytes=3000-"]


def test_next_hook_goes_on_where_the_last_one_stopped(
    layout: Layout, wish: ReleaseWish, site: Site
) -> None:
    site.cut = [1000, 0]
    with pytest.raises(ConcourseError, match=r"127.0.0.1 failed \(the connection ended") as caught:
        release.ensure_tree(layout, wish, quiet)
    assert caught.value.retry
    assert part(layout).stat().st_size == 1000
    release.ensure_tree(layout, wish, quiet)
    assert site.requests[-2][1]["range"] == "bytes=1000-"
    assert site.requests[-2][1]["if-range"] == '"one"'


@pytest.mark.parametrize("manners", [{"ranges": False}, {"etag": '"two"'}, {"lies": True}])
def test_server_without_resumption_starts_over(
    layout: Layout, wish: ReleaseWish, site: Site, manners: dict[str, object]
) -> None:
    site.cut = [1000, 0]
    with pytest.raises(ConcourseError):
        release.ensure_tree(layout, wish, quiet)
    for name, value in manners.items():
        setattr(site, name, value)
    assert release.is_complete(release.ensure_tree(layout, wish, quiet))


def test_file_that_changed_under_the_download_is_fetched_anew(
    layout: Layout, wish: ReleaseWish, site: Site
) -> None:
    site.cut = [1000, 0]
    with pytest.raises(ConcourseError):
        release.ensure_tree(layout, wish, quiet)
    site.add(pack([*release_members("8.3.0"), member("concourse/new", b"x" * 99)]), machine=MACHINE)
    site.etag = '"two"'
    assert (release.ensure_tree(layout, wish, quiet) / "new").read_bytes() == b"x" * 99


def test_file_that_is_shorter_now_is_fetched_anew(
    layout: Layout, wish: ReleaseWish, site: Site
) -> None:
    path = part(layout)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 10_000_000)
    note = {"url": f"{site.url}/v8.3.0/{file_name('8.3.0')}", "validator": "", "total": None}
    path.with_name(f"{path.name}.json").write_text(json.dumps(note))
    assert release.is_complete(release.ensure_tree(layout, wish, quiet))


def test_server_without_lengths_is_taken_by_its_checksum(
    layout: Layout, wish: ReleaseWish, site: Site
) -> None:
    site.length = False
    lines: list[str] = []
    release.ensure_tree(layout, wish, lines.append)
    assert "Downloading Concourse 8.3.0 (0 MB)" in lines


def test_silence_is_given_up_and_what_came_is_kept(
    layout: Layout, wish: ReleaseWish, site: Site
) -> None:
    site.pause = 3.0
    hasty = replace(wish, limits=Limits(total=20, stalled=0.15, report=0))
    with pytest.raises(ConcourseError, match="timed out"):
        release.ensure_tree(layout, hasty, quiet)
    assert part(layout).stat().st_size >= 2000


def test_trickle_is_given_up_at_the_total_limit(
    layout: Layout, wish: ReleaseWish, site: Site
) -> None:
    site.pause = 0.1
    started = time.monotonic()
    hasty = replace(wish, limits=Limits(total=0.5, stalled=2, report=0))
    with pytest.raises(ConcourseError, match=r"did not finish within 0 min .* kept") as caught:
        release.ensure_tree(layout, hasty, quiet)
    assert time.monotonic() - started < 3
    assert caught.value.retry
    assert part(layout).stat().st_size > 0


def test_other_versions_partial_download_goes(layout: Layout, wish: ReleaseWish) -> None:
    old = layout.state / "downloads/concourse-8.2.0-linux-amd64.tgz.part"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"x")
    with pytest.raises(ConcourseError):
        release.ensure_tree(layout, replace(wish, sha256="0" * 64), quiet)
    assert not old.exists()


def test_progress_is_whole_percents_and_not_too_often() -> None:
    lines: list[str] = []
    reporter = Reporter("Downloading Concourse 8.3.0", lines.append, 0.0)
    for done in range(1001):
        reporter.at(done, 1000)
    assert len(lines) == 101
    assert lines[43] == "Downloading Concourse 8.3.0 (43 %)"
    slow = Reporter("x", lines.append, 60.0)
    del lines[:]
    for done in range(1001):
        slow.at(done, 1000)
    assert lines == ["x (0 %)"]


# --- proxies ---------------------------------------------------------------------------


def test_given_proxy_is_used_with_its_credentials_and_through_redirects(
    layout: Layout, site: Site, wish: ReleaseWish
) -> None:
    site.redirect = "http://elsewhere.test"
    proxies = {"http_proxy": site.url.replace("http://", "http://me:p%40ss@")}
    release.ensure_tree(layout, replace(wish, url="http://mirror.test", proxies=proxies), quiet)
    assert site.paths()[0].startswith("http://mirror.test/v8.3.0/")
    assert site.paths()[1].startswith("http://elsewhere.test/blob/")
    assert {headers["proxy-authorization"] for _, headers in site.requests} == {
        "Basic bWU6cEBzcw=="
    }


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*", "127.0.0.0/8", "a.test, 127.0.0.1:8080"])
def test_no_proxy_goes_straight(
    layout: Layout, site: Site, wish: ReleaseWish, no_proxy: str
) -> None:
    proxies = {"http_proxy": "http://127.0.0.1:1", "no_proxy": no_proxy}
    release.ensure_tree(layout, replace(wish, proxies=proxies), quiet)
    assert "proxy-authorization" not in site.requests[0][1]


def test_proxies_of_this_process_are_not_taken(
    layout: Layout, wish: ReleaseWish, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    release.ensure_tree(layout, wish, quiet)
    monkeypatch.setenv("no_proxy", "*")
    proxied = replace(wish, version="8.3.1", proxies={"http_proxy": "http://127.0.0.1:1"})
    with pytest.raises(ConcourseError, match="refused"):
        release.ensure_tree(layout, proxied, quiet)
