"""Machines with something wrong: the worker goes on, one status says what, and it ends with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from rehearsal.machine import Machine
from rehearsal.standins.gpu import Hardware
from rehearsal.world import World
from tests.chaos import faults
from tests.chaos.faults import CONFIG, WORKER, Cause, Site, damaged, mirror, shell, smi
from tests.chaos.frame import Chaos
from tests.chaos.units import GPU, assemble, installed, settle

PROMISE = (
    "A bad machine (disk, apt, mirror, driver, systemd): hooks are bounded, containers are"
    " created, one status says what it is, nothing is lost, and it ends with its cause."
)
READY = "Worker ready \\(GPU: 1x NVIDIA\\)"
PACKAGES = "nvidia-container-toolkit{,-base} libnvidia-container-tools libnvidia-container1"
Check = Callable[[Site], None]


@dataclass(frozen=True)
class Fault:
    """Something wrong, and what the charm has to make of it.

    Attributes:
        said: the unit's message while it lasts, as a pattern of all of it.
        cause: what goes wrong, for as long as the fault lasts.
        options: what the operator changes meanwhile; the unit is told.
        hooks: how many hooks until it says so.
        bare: whether NVIDIA's packages have yet to be installed.
        limit: what a hook may take, in seconds.
        check: what else has to hold while it lasts.
    """

    name: str
    said: str
    cause: Cause
    options: Mapping[str, object] = field(default_factory=dict)
    hooks: int = 1
    bare: bool = False
    limit: float = 150
    check: Check = lambda _: None

    def __str__(self) -> str:
        return self.name


FULL = r".*(the disk is full|No space left on device).*"
UNREACHABLE = r".*the repository can't be reached: check the network and the model's proxies.*"
DAMAGED = r".*the repository gives a damaged file: renew the mirror \(will be retried\)"


def kept(site: Site) -> None:
    """What was no use as a config.toml is kept beside it."""
    assert site.machine.shell(f"ls {CONFIG}.unusable*").split()


def one_is_held(site: Site) -> None:
    """However many hooks ask, one nvidia-smi alone waits in the kernel."""
    held = site.machine.shell("ps -eo stat,comm | grep '^D.*nvidia-smi' || true").splitlines()
    assert len(held) == 1, held


def other(folder: str, **more: object) -> dict[str, object]:
    return {"nvidia-repository-url": f"http://{folder}/stable/deb", **more}


NO_KEY = {"nvidia-repository-key": ""}
SLOW = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
FAULTS = [
    Fault("full disk, nothing to do", READY, faults.full_disk),
    Fault("full disk, another choice", FULL, faults.full_disk, {"gpu-device-ids": "0"}),
    Fault("full disk, another level", FULL, faults.full_disk, {"log-level": "error"}),
    Fault("full disk, undoing", FULL, faults.full_disk, {"enable-gpu": False}),
    Fault("full disk, set-up", FULL, faults.full_disk, bare=True),
    Fault("no inodes, another choice", FULL, faults.no_inodes, {"gpu-device-ids": "0"}),
    Fault("no inodes, set-up", FULL, faults.no_inodes, bare=True),
    Fault("read-only /usr, nothing to do", READY, faults.read_only_usr),
    Fault(
        "read-only /usr, undoing",
        "Worker ready, GPU set-up not yet removed: the disk is"
        r" read-only \(/usr/bin/nvidia-container-runtime\).*",
        faults.read_only_usr,
        {"enable-gpu": False},
    ),
    Fault("read-only /usr, set-up", r"the disk is read-only .*", faults.read_only_usr, bare=True),
    Fault(
        "apt locked",
        r"apt is in use by python3 \(pid \d+\) \(will be retried\)",
        faults.apt_locked,
        bare=True,
    ),
    Fault(
        "half-configured dpkg",
        f"{READY}, but installing .* failed, dpkg can't finish half:"
        r" see sudo dpkg --configure -a \(will be retried\)",
        faults.half_configured,
        bare=True,
    ),
    Fault("mirror unreachable", UNREACHABLE, faults.nothing, other("127.0.0.1:9"), bare=True),
    Fault(
        "mirror unreachable, no key",
        r".*gpgkey can't be had .* \(will be retried\)",
        faults.nothing,
        other("127.0.0.1:9", **NO_KEY),
        bare=True,
    ),
    Fault(
        "mirror drips",
        r"apt-get update did not finish within 15 s \(will be retried\)",
        mirror(SLOW, 0.5, 8010),
        other("127.0.0.1:8010"),
        bare=True,
    ),
    Fault(
        "mirror drips a key",
        r".*gpgkey (can't be had|did not arrive within) .*",
        mirror(SLOW, 0.5, 8010),
        other("127.0.0.1:8010", **NO_KEY),
        bare=True,
    ),
    Fault(
        "mirror is silent",
        f"{UNREACHABLE}|apt-get update did not finish within 15 s.*",
        mirror(b"", 1000, 8010),
        other("127.0.0.1:8010"),
        bare=True,
    ),
    Fault(
        "no DNS",
        UNREACHABLE,
        shell(
            "echo 'Acquire::http::Proxy::mirror.invalid \"DIRECT\";' >/etc/apt/apt.conf.d/99x",
            "rm -f /etc/apt/apt.conf.d/99x",
        ),
        other("mirror.invalid"),
        bare=True,
    ),
    Fault(
        "wrong key",
        r".*the key doesn't fit the repository's signature: set nvidia-repository-"
        "key to the key of nvidia-repository-url",
        faults.nothing,
        {"nvidia-repository-key": "@"},
        bare=True,
    ),
    Fault(
        "truncated deb",
        DAMAGED,
        damaged("*toolkit-base_1.20.0*.deb", lambda b: b[:-900]),
        bare=True,
    ),
    Fault(
        "wrong checksum",
        DAMAGED,
        damaged("*toolkit-base_1.20.0*.deb", faults.garbled),
        bare=True,
    ),
    Fault("lying list", DAMAGED, damaged("stable/deb/*/Packages*", lambda b: b + b"\n"), bare=True),
    Fault(
        "clock far behind",
        ".*of another time than this machine's clock: compare timedatectl.*",
        faults.made_at(10 * 365 * 86400),
        bare=True,
    ),
    Fault("clock far ahead", READY, faults.made_at(-10 * 365 * 86400), bare=True),
    Fault(
        "nvidia-smi in state D",
        "nvidia-smi hangs in the driver: reboot",
        faults.smi_in_state_d,
        hooks=3,
        check=one_is_held,
    ),
    Fault(
        "nvidia-smi sleeps",
        "nvidia-smi hangs in the driver: reboot",
        smi("#!/bin/sh\nsleep 600\n"),
        hooks=2,
    ),
    Fault(
        "nvidia-smi prints garbage",
        "nvidia-smi says nothing that can be read: reboot",
        smi("#!/bin/sh\nhead -c 3000000 /dev/urandom\n"),
        hooks=2,
    ),
    Fault(
        "nvidia-smi prints without end",
        "nvidia-smi fails .*wrote without end.*: reboot",
        smi("#!/bin/sh\nexec yes '0, GPU-1, x, y, 1, 2'\n"),
        hooks=2,
    ),
    Fault(
        "[GPU is lost]",
        "GPU lost, it does not answer any more: reboot",
        faults.hardware(Hardware(lost=(0,))),
        hooks=2,
    ),
    Fault("one of two lost", READY, faults.hardware(faults.TWO_ONE_LOST)),
    Fault(
        "library and module apart",
        "Driver/library mismatch: kernel module 580.82.07, library 580.95.05: reboot",
        faults.hardware(Hardware(driver="580.82.07")),
        hooks=2,
    ),
    Fault("config.toml invalid", READY, shell(f"echo 'runtimes = [' >{CONFIG}"), check=kept),
    Fault("config.toml binary", READY, shell(f"head -c 999 /dev/urandom >{CONFIG}"), check=kept),
    Fault("config.toml empty", READY, shell(f": >{CONFIG}")),
    Fault("config.toml a link", READY, shell(f"mv {CONFIG} /etc/t; ln -s /etc/t {CONFIG}")),
    Fault(
        "config.toml a loop", READY, shell(f"rm {CONFIG}; ln -s config.toml {CONFIG}"), check=kept
    ),
    Fault("config.toml a folder", READY, shell(f"rm {CONFIG}; mkdir {CONFIG}"), check=kept),
    Fault("config.toml a pipe", READY, shell(f"rm {CONFIG}; mkfifo {CONFIG}"), check=kept),
    Fault(
        "config.toml can't be replaced",
        r"Device or resource busy \(.*\) \(will be retried\)",
        shell(
            f"cp {CONFIG} /etc/t; echo x=1 >>/etc/t; mount --bind /etc/t {CONFIG};"
            f"echo x=1 >{CONFIG}",
            f"umount {CONFIG}",
        ),
    ),
    Fault(
        "systemd refuses the unit",
        r"systemd can't load concourse-worker.service .*: see"
        r" systemctl status concourse-worker.service \(will be retried\)",
        shell(
            f"mkdir {WORKER}.d; printf '[Service]\\nExecStart=\\n' >{WORKER}.d/t.conf;"
            "systemctl daemon-reload",
            f"rm -r {WORKER}.d",
        ),
    ),
    Fault(
        "systemd hangs",
        r"systemctl did not finish within 10 s \(will be retried\)",
        faults.systemd_hung,
    ),
    Fault(
        "release mirror unreachable",
        r"Concourse 8\.3\.0 runs on, 8\.3\.1 failed: .*",
        faults.nothing,
        {"@version": "8.3.1", "concourse-release-url": "http://127.0.0.1:9"},
    ),
    Fault(
        "release truncated",
        r"Concourse 8\.3\.0 runs on, 8\.3\.1 failed: .*",
        damaged("concourse-8.3.1-*.tgz", lambda b: b[:-900]),
        {"@version": "8.3.1"},
    ),
    Fault(
        "release with another checksum",
        r"Concourse 8\.3\.0 runs on, 8\.3\.1 failed: .*",
        damaged("concourse-8.3.1-*.tgz", faults.garbled),
        {"@version": "8.3.1"},
    ),
    Fault(
        "full disk, another release",
        r"Concourse 8\.3\.0 runs on, 8\.3\.1 failed: .*",
        faults.full_disk,
        {"@version": "8.3.1"},
    ),
]


@pytest.fixture(scope="module")
def site(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A worker whose tasks have the GPU, with limits that are short."""
    charm = faults.scale(assemble(machine, tmp_path_factory.mktemp("charm")))
    unit = installed(machine, world, charm, enable_gpu=True)
    world.offer_release("8.3.1")
    settle(unit, GPU)
    prepare_container(machine)
    return Site(machine, world, unit)


def test_a_bad_machine(chaos: Chaos, site: Site) -> None:
    for fault in chaos.part(FAULTS, quick=6):
        with chaos.case(PROMISE, fault.name):
            suffer(site, fault)


def suffer(site: Site, fault: Fault) -> None:
    """Have a fault come, last and go."""
    if fault.bare:
        make_bare(site)
    with told(site, fault), fault.cause(site):
        for number in range(fault.hooks):
            name = "update-status" if number or not (fault.options or fault.bare) else None
            run = site.unit.hook(name or "config-changed", limit=fault.limit)
            assert run.code == 0, run.trouble
            message = site.unit.model.status[1]
            assert message.isprintable(), message
            assert len(message) <= 300, message
            create_container(site.machine)
        assert re.fullmatch(fault.said, message), message
        fault.check(site)
    settle(site.unit, GPU)
    create_container(site.machine)
    checks = site.unit.action("verify-gpu")
    assert checks.failure is None, checks.results
    if fault.bare:
        assert "half-" not in site.machine.shell("dpkg --audit || true")


@contextmanager
def told(site: Site, fault: Fault) -> Iterator[None]:
    """Have the operator's options, or the related web's version, be others for a while."""
    model = site.unit.model
    options = dict(fault.options)
    bag = model.relations[0].bag("web")
    before, release = dict(model.config), bag["concourse-version"]
    bag["concourse-version"] = str(options.pop("@version", release))
    if options.get("nvidia-repository-key") == "@":
        options["nvidia-repository-key"] = another_key(site.machine)
    model.config.update(options)
    try:
        yield
    finally:
        model.config.update(before)
        bag["concourse-version"] = release


def another_key(machine: Machine) -> str:
    """Make a key that signs nothing here."""
    return machine.shell(
        "gpg='gpg --homedir /run/wrong --batch --quiet'; mkdir -p -m 700 /run/wrong\n"
        "$gpg --passphrase '' --quick-generate-key 'wrong <w@localhost>' rsa2048 sign never\n"
        "$gpg --armor --export; gpgconf --homedir /run/wrong --kill all",
        timeout=60,
    )


def make_bare(site: Site) -> None:
    """Go back to a worker without the GPU, and without NVIDIA's packages, apt's copies too."""
    site.unit.model.config["enable-gpu"] = False
    run = site.unit.hook("config-changed")
    assert run.code == 0, run.trouble
    purge = f"dpkg --purge --force-all {PACKAGES} half >/dev/null 2>&1 || true"
    script = f"{purge}; rm -rf {CONFIG}*; apt-get clean"
    site.machine.run(["bash", "-euc", script], timeout=60)
    site.unit.model.config["enable-gpu"] = True


def prepare_container(machine: Machine) -> None:
    """Lay a container out below /run, where no fault reaches it."""
    machine.shell(
        "mkdir -p /run/cpu/rootfs/usr /run/cpu/rootfs/proc /run/cpu/rootfs/dev; cd /run/cpu\n"
        "for name in bin lib lib64; do ln -sf usr/$name rootfs/$name; done\n"
        "/opt/concourse/bin/runc.real spec"
    )
    spec = json.loads(machine.read("/run/cpu/config.json"))
    spec["process"] |= {"terminal": False, "args": ["/bin/true"]}
    bind = {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}
    spec["mounts"] = [*spec["mounts"][:2], bind]  # proc, dev
    spec["linux"] |= {"cgroupsPath": "/garden/one", "resources": {}}
    machine.write("/run/cpu/config.json", json.dumps(spec))


def create_container(machine: Machine) -> None:
    """Create a container without a GPU, start it and delete it, through the worker's runc."""
    runc = "/opt/concourse/bin/runc --root /run/cpu-runc"
    machine.shell(
        f"{runc} create --bundle /run/cpu one >/run/cpu.log 2>&1 </dev/null || {{ cat /run/cpu.log"
        f"; exit 1; }}\n{runc} start one\n{runc} delete --force one",
        timeout=30,
    )
