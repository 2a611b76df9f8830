"""The place of a machine: metal, virtual or a container, its name, its privileges."""

from __future__ import annotations

import pytest

from gpu.inventory import look
from tests.unit.gpu_roots import FULL_RANGE, MAPPED_RANGE, Root


@pytest.mark.parametrize(
    ("container", "vm", "kind"),
    [
        ("none", "none", "metal"),
        ("none", "kvm", "vm"),
        ("lxc", "none", "lxd"),
        ("lxc", "kvm", "lxd"),
        ("docker", "none", "container"),
        ("systemd-nspawn", "kvm", "container"),
        ("wsl", "microsoft", "vm"),
    ],
)
def test_place_by_systemd(root: Root, container: str, vm: str, kind: str) -> None:
    root.place(container=container, vm=vm)
    assert look(root.layout).place.kind == kind


def test_place_by_environment_where_systemd_cannot_say(root: Root) -> None:
    root.write("/proc/1/environ", "HOME=/\0container=lxc\0TERM=linux\0")
    assert look(root.layout).place.kind == "lxd"


@pytest.mark.parametrize(
    ("container", "kind"), [("none", "vm"), ("container-other", "lxd"), ("docker", "lxd")]
)
def test_place_by_socket_inside_a_container_only(root: Root, container: str, kind: str) -> None:
    root.place(container=container, vm="kvm")
    root.write("/dev/lxd/sock", "")
    assert look(root.layout).place.kind == kind


@pytest.mark.parametrize(
    ("hostname", "etc", "name"),
    [
        ("juju-abc123-0\n", "other\n", "juju-abc123-0"),
        ("juju-abc123-0.lxd\n", "", "juju-abc123-0"),
        ("", "from-etc\n", "from-etc"),
        ("$(reboot)\n", "", ""),
        ("-gpu\n", "", ""),
        ("", "", ""),
    ],
)
def test_place_name(root: Root, hostname: str, etc: str, name: str) -> None:
    root.write("/proc/sys/kernel/hostname", hostname)
    root.write("/etc/hostname", etc)
    assert look(root.layout).place.name == name


@pytest.mark.parametrize(
    ("uid_map", "unprivileged"),
    [
        (FULL_RANGE, False),
        ("0 0 4294967295", False),
        (MAPPED_RANGE, True),
        ("0 0 65536\n", True),
        ("", False),
    ],
)
def test_place_unprivileged(root: Root, uid_map: str, unprivileged: bool) -> None:
    root.write("/proc/self/uid_map", uid_map)
    assert look(root.layout).place.unprivileged is unprivileged


def test_place_survives_a_broken_systemd_detect_virt(root: Root) -> None:
    root.program("systemd-detect-virt", "exit 127")
    assert look(root.layout).place.kind == "metal"
