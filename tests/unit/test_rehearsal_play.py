"""The parts of the rehearsal that need no machine."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from concourse.keys import is_public_key
from rehearsal import footprint, relay
from rehearsal.choice import Choice
from rehearsal.play import version_of
from rehearsal.screen import Screen
from rehearsal.standins import nvidia_container_runtime as runtime
from rehearsal.standins.packages import toolkit
from rehearsal.standins.real import description
from rehearsal.standins.web import public_key


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        (Choice(), ()),
        (Choice(gpus=0), ("No NVIDIA GPU",)),
        (Choice(lxd=True), ()),
        (Choice(lxd=True, passed=False), ("lxc config device add juju-5a4d1e-0 gpu0 gpu",)),
        (Choice(driver=False), ("driver", "sudo apt install nvidia-driver-", "reboot")),
        (Choice(mismatch=True), ("580.95.05", "580.82.07", "reboot")),
    ],
)
def test_each_machine_has_its_status(choice: Choice, named: tuple[str, ...]) -> None:
    assert choice.trouble == named


def test_a_release_tells_its_version_by_its_name() -> None:
    assert version_of(Path("/x/concourse-8.3.0-linux-arm64.tgz")) == "8.3.0"
    with pytest.raises(ValueError, match="not named like"):
        version_of(Path("concourse.tgz"))


def test_the_screen_counts_what_is_wrong() -> None:
    out = io.StringIO()
    screen = Screen(out)
    assert screen.check(holds=True, text="it runs")
    assert not screen.check(holds=False, text="it stops", otherwise="it runs on")
    assert screen.wrong == ["it stops"]
    lines = [line[8:] for line in out.getvalue().splitlines()]
    assert lines == ["ok     it runs", "WRONG  it stops: it runs on"]


def test_a_footprint_knows_what_really_changed(tmp_path: Path) -> None:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for root in (upper, lower):
        (root / "etc").mkdir(parents=True)
        (root / "etc/same").write_text("1")
        (root / "etc/mode").write_text("1")
    (upper / "etc/mode").chmod(0o600)
    (upper / "etc/new").symlink_to("same")
    (upper / "var/log").mkdir(parents=True)
    (upper / "var/log/dpkg.log").write_text("noise")
    (lower / "var").mkdir()
    before: footprint.Footprint = {}
    changed = footprint.changes(before, footprint.look(upper, lower))
    assert changed == ("/etc/mode", "/etc/new")
    assert footprint.beside(("/usr/bin/jq", "/etc/x"), ["/bin/jq", "/usr/bin/jq"]) == ("/etc/x",)


def test_the_proxy_finds_its_way() -> None:
    assert relay.destination("GET", "http://archive.example.test/debian/x") == (
        "archive.example.test",
        80,
    )
    assert relay.destination("CONNECT", "[::1]:8443") == ("::1", 8443)
    with pytest.raises(ValueError, match="no host"):
        relay.destination("GET", "/x")


def test_the_host_key_is_one_that_workers_take() -> None:
    assert is_public_key(public_key())


def test_packages_depend_on_each_other_as_the_real_ones() -> None:
    old = {package.name: package.depends for package in toolkit("1.17.0-1")}
    new = {package.name: package.depends for package in toolkit("1.20.0-1")}
    assert old["libnvidia-container-tools"] == "libnvidia-container1 (>= 1.17.0-1)"
    assert new["libnvidia-container-tools"] == "libnvidia-container1 (= 1.20.0-1)"
    assert len(new) == 4


def test_every_device_of_a_description_has_its_node() -> None:
    found = description(Choice(gpus=2).hardware)
    devices = found["devices"]
    assert isinstance(devices, list)
    assert [device["name"] for device in devices][:2] == ["0", "1"]
    assert devices[-1]["name"] == "all"
    assert len(devices[-1]["containerEdits"]["deviceNodes"]) == 2


@pytest.mark.parametrize(
    ("request_", "nodes"),
    [
        ("none", []),
        ("0", ["null"]),
        ("all", ["null"]),
        ("GPU-1", ["null"]),
        ("0,0", []),
    ],
)
def test_the_stand_in_runtime_chooses(
    monkeypatch: pytest.MonkeyPatch, request_: str, nodes: list[str]
) -> None:
    driver = {"gpus": [{"index": 0, "uuid": "GPU-1"}]}
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    assert runtime.chosen(request_, driver) == [node.replace("null", "nvidia0") for node in nodes]


def test_the_stand_in_runtime_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="unresolvable CDI devices nvidia.com/gpu=7"):
        runtime.chosen("7", {"gpus": []})


def test_the_stand_in_runtime_leaves_a_spec_that_asks_for_nothing() -> None:
    spec = {
        "process": {"env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES="]}
    }
    assert not runtime.inject(spec)
    spec["process"]["env"].append("CUDA_VERSION=13.0")
    assert not runtime.inject(spec)


def test_a_node_is_added_with_its_permission() -> None:
    spec: dict[str, object] = {}
    runtime.add_node(spec, "null")
    null = os.stat("/dev/null").st_rdev
    linux = spec["linux"]
    assert isinstance(linux, dict)
    assert linux["devices"][0]["path"] == "/dev/null"
    assert linux["resources"]["devices"][0]["minor"] == os.minor(null)
