"""Several sets of packages: in one call of apt where that works, else each on its own."""

from __future__ import annotations

import pytest

from gpu import apt, orders
from gpu.errors import GpuError, NotNowError
from gpu.orders import Order
from host import Layout
from tests.unit.fake_apt import FakeApt


@pytest.fixture
def fake(layout: Layout) -> FakeApt:
    found = FakeApt(layout.root)
    found.offer("tools", "library", versions=["1.0-1"])
    found.offer("jq", versions=["1.7"])
    return found


@pytest.fixture
def done() -> list[str]:
    return []


def wanted(done: list[str], **flags: bool) -> list[Order]:
    specs = {"driver": ("tools=1.0-1", "library=1.0-1"), "jq": ("jq",)}
    return [
        Order(name, each, lambda name=name: done.append(name), **flags)  # type: ignore[misc]
        for name, each in specs.items()
    ]


def test_all_come_in_one_download_and_one_installation(
    layout: Layout, fake: FakeApt, done: list[str]
) -> None:
    assert orders.fulfil_all(layout, wanted(done), {}) == []
    assert fake.changing() == ["download", "unpack"]
    assert done == ["driver", "jq"]
    assert (fake.version("tools"), fake.version("jq")) == ("1.0-1", "1.7")


def test_what_a_site_lacks_keeps_nothing_else_away(
    layout: Layout, fake: FakeApt, done: list[str]
) -> None:
    fake.offer("jq", versions=[])
    (trouble,) = orders.fulfil_all(layout, wanted(done), {})
    assert "jq" in str(trouble)
    assert done == ["driver"]
    assert fake.version("library") == "1.0-1"


def test_a_slow_mirror_is_not_asked_again_in_the_same_hook(
    layout: Layout, fake: FakeApt, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = NotNowError("installing tools did not finish within 300 s", retry=True)

    def install(*_: object, **__: object) -> None:
        fake.forget_calls()
        raise slow

    monkeypatch.setattr(apt, "install", install)
    assert orders.fulfil_all(layout, wanted(done), {}) == [slow]
    assert done == []


def test_a_downgrade_that_only_one_may_do_is_allowed_to_none_together(
    layout: Layout, fake: FakeApt, done: list[str]
) -> None:
    driver, jq = wanted(done, downgrade=True)
    assert orders.fulfil_all(layout, [driver, Order("jq", jq.specs, jq.done)], {}) == []
    assert not any("--allow-downgrades" in call for call in fake.calls())
    fake.forget_calls()
    orders.fulfil_all(layout, [driver, jq], {})
    assert any("--allow-downgrades" in call for call in fake.calls())


def test_what_is_not_there_after_all_is_said(layout: Layout, fake: FakeApt) -> None:
    def gone() -> None:
        raise GpuError("it is not installed after all")

    order = Order("jq", ("jq",), gone)
    assert [str(each) for each in orders.fulfil_all(layout, [order], {})] == [
        "it is not installed after all"
    ]
