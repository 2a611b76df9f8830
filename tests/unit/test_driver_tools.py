"""nvidia-smi and its library: exactly the loaded module's version, never a kernel driver."""

from __future__ import annotations

import logging

import pytest

from gpu import repository
from gpu.driver_tools import order_driver_tools
from gpu.errors import GpuError
from gpu.inventory import GpuInventory, Place
from host import Layout
from tests.unit.fake_apt import FakeApt
from tests.unit.toolkit_roots import ensure_driver_tools

UBUNTU = "-0ubuntu0.24.04.1"
LXD = Place("lxd", "juju-1", unprivileged=True)


def machine(
    module: str, *, server: bool = False, smi: bool = False, place: Place = LXD
) -> GpuInventory:
    return GpuInventory(module=module, module_server=server, smi_present=smi, place=place)


def offer_driver(fake: FakeApt, flavour: str, *versions: str) -> None:
    names = (f"nvidia-utils-{flavour}", f"libnvidia-compute-{flavour}")
    fake.offer(*names, versions=[version + UBUNTU for version in versions])


def test_nvidia_utils_of_exactly_the_modules_version(
    layout: Layout, fake: FakeApt, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    offer_driver(fake, "580", "580.105.08", "580.95.05")
    offer_driver(fake, "580-server", "580.105.08", "580.95.05")
    with caplog.at_level(logging.INFO):
        assert ensure_driver_tools(layout, machine("580.95.05"), said.append)
    assert "Installing nvidia-utils..." in caplog.messages
    assert "nvidia-utils installed" in caplog.messages
    for name in ("nvidia-utils-580", "libnvidia-compute-580"):
        assert fake.version(name) == f"580.95.05{UBUNTU}"
    assert not fake.version("nvidia-utils-580-server")
    assert fake.changing() == ["plan", "download", "unpack"]


def test_what_else_is_to_be_listed_is_prepared_before_all_lists_are_fetched(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    def prepare() -> None:
        said.append(str(fake.changing()))

    fake.offer("nvidia-utils-580", versions=[f"580.95.05{UBUNTU}"], after_update=True)
    order = order_driver_tools(layout, machine("580.95.05"), {}, said.append, prepare)
    assert order
    assert said[-1] == "[]"
    assert fake.changing() == ["update", "plan"]
    fake.forget_calls()
    assert order_driver_tools(layout, machine("580.95.05"), {}, lambda _: None, prepare)
    assert said[-1] == "[]"
    assert fake.changing() == ["plan"]


def test_the_server_flavour_where_that_is_loaded(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    offer_driver(fake, "570", "570.1.1")
    offer_driver(fake, "570-server", "570.1.1")
    assert ensure_driver_tools(layout, machine("570.1.1", server=True), said.append)
    assert fake.version("nvidia-utils-570-server")
    assert not fake.version("nvidia-utils-570")


def test_the_other_flavour_if_it_alone_has_the_version(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    offer_driver(fake, "580", "580.105.08")
    offer_driver(fake, "580-server", "580.95.05")
    assert ensure_driver_tools(layout, machine("580.95.05"), said.append)
    assert fake.version("nvidia-utils-580-server") == f"580.95.05{UBUNTU}"


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        (
            LXD,
            (
                "upgrade the LXD host's driver to 580.105.08, or run"
                " `lxc config set juju-1 nvidia.runtime=true` there"
            ),
        ),
        (Place("container"), "upgrade the host's driver to 580.105.08"),
        (Place("metal"), "upgrade the driver to 580.105.08 and reboot"),
    ],
)
def test_no_exact_version_is_an_error_with_what_is_offered(
    layout: Layout, fake: FakeApt, said: list[str], place: Place, remedy: str
) -> None:
    offer_driver(fake, "580", "580.105.08")
    with pytest.raises(GpuError) as caught:
        ensure_driver_tools(layout, machine("580.95.05", place=place), said.append)
    assert str(caught.value) == (
        "nvidia-utils of the loaded driver 580.95.05 can't be had (offered: 580.105.08): " + remedy
    )
    assert fake.changing() == ["update"]


def test_a_kernel_driver_never_comes_along(layout: Layout, fake: FakeApt, said: list[str]) -> None:
    offer_driver(fake, "580", "580.95.05")
    fake.bring_along(nvidia_dkms_580=f"580.95.05{UBUNTU}")
    with pytest.raises(GpuError, match="kernel driver along: nvidia-dkms-580"):
        ensure_driver_tools(layout, machine("580.95.05"), said.append)
    assert fake.changing() == ["plan"]


def test_a_library_that_would_come_in_another_version_is_named_too(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    offer_driver(fake, "580", "580.95.05")
    versions = [f"580.105.08{UBUNTU}", f"580.95.05{UBUNTU}"]
    fake.offer("libnvidia-gpucomp-580", versions=versions)
    fake.bring_along(libnvidia_gpucomp_580=versions[0])
    with pytest.raises(GpuError, match="libnvidia-gpucomp-580 can't be had in the loaded driver's"):
        # The fake brings the newest along whatever is named; the call that names it is the point.
        ensure_driver_tools(layout, machine("580.95.05"), said.append)
    plans = [call for call in fake.calls() if "-s" in call]
    assert f"libnvidia-gpucomp-580={versions[1]}" in plans[1]


def test_an_nvidia_smi_that_is_there_is_left_alone(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    assert not ensure_driver_tools(layout, machine("580.95.05", smi=True), said.append)
    assert not ensure_driver_tools(layout, machine(""), said.append)
    assert fake.calls() == []


def test_the_charms_own_tools_follow_the_module(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    offer_driver(fake, "580", "580.105.08", "580.95.05")
    ensure_driver_tools(layout, machine("580.95.05"), said.append)
    assert "580.95.05-*" in layout.at(repository.DRIVER_PINS).read_text()
    assert not ensure_driver_tools(layout, machine("580.95.05", smi=True), said.append)
    assert ensure_driver_tools(layout, machine("580.105.08", smi=True), said.append)
    assert fake.version("nvidia-utils-580") == f"580.105.08{UBUNTU}"
    assert "580.105.08-*" in layout.at(repository.DRIVER_PINS).read_text()


def test_on_metal_nothing_is_pinned_against_the_operators_driver_upgrade(
    layout: Layout, fake: FakeApt, said: list[str]
) -> None:
    offer_driver(fake, "580", "580.95.05")
    assert ensure_driver_tools(layout, machine("580.95.05", place=Place("metal")), said.append)
    assert not layout.at(repository.DRIVER_PINS).exists()
    assert not any("--allow-downgrades" in call for call in fake.calls())
