"""What a running web reads again when it gets a signal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from concourse import reread, web
from concourse.web import Tls
from host import Layout
from tests.unit import web_wishes
from tests.unit.web_wishes import TLS, WISH, started
from tests.unit.webs import Programs

port = web_wishes.port


def test_a_new_certificate_is_read_by_signal_and_restarts_nothing(
    layout: Layout, programs: Programs, tree: Path, port: int
) -> None:
    web.ensure_files(layout, TLS, tree)
    programs.runs(started(layout, CONCOURSE_BIND_PORT=str(port)))
    assert not reread.ensure_reread(layout)
    web.ensure_files(layout, replace(TLS, tls=Tls("cert2", "key2")), tree)
    programs.asked()
    assert not web.ensure_running(layout)
    assert reread.ensure_reread(layout)
    kill = "kill --kill-who=main --signal=SIGHUP concourse-web.service"
    assert programs.asked() == [kill]
    assert not reread.ensure_reread(layout)
    assert programs.asked() == []


def test_a_web_that_does_not_answer_yet_is_signalled_later(
    layout: Layout, programs: Programs, tree: Path, port: int
) -> None:
    web.ensure_files(layout, TLS, tree)
    before = started(layout, CONCOURSE_BIND_PORT="1")
    web.ensure_files(layout, replace(TLS, tls=Tls("cert2", "key2")), tree)
    programs.runs(before)
    programs.asked()
    assert not reread.ensure_reread(layout)
    assert programs.asked() == []
    programs.runs({**before, "CONCOURSE_BIND_PORT": str(port)})
    assert reread.ensure_reread(layout)


def test_a_signal_to_an_earlier_run_counts_for_nothing(
    layout: Layout, programs: Programs, tree: Path, port: int
) -> None:
    web.ensure_files(layout, TLS, tree)
    old = started(layout, CONCOURSE_BIND_PORT=str(port))
    web.ensure_files(layout, replace(TLS, tls=Tls("cert2", "key2")), tree)
    programs.runs(old)
    assert reread.ensure_reread(layout)
    programs.runs(old, InvocationID="run2")  # read its environment before the change
    assert reread.ensure_reread(layout)
    programs.runs(started(layout, CONCOURSE_BIND_PORT=str(port)), InvocationID="run3")
    assert not reread.ensure_reread(layout)


def test_a_stopped_web_is_not_signalled(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.asked()
    assert not reread.ensure_reread(layout)
    assert programs.asked() == []
