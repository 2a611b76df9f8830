"""The packages of a GPU worker with real apt and dpkg, from signed repositories on loopback."""

from __future__ import annotations

import json
import subprocess
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gpu.versions import older
from rehearsal.machine import Machine
from rehearsal.standins.gpu import DRIVER, OLDER_DRIVER
from rehearsal.world import World
from tests.functional.conftest import Inside

NAMES = "nvidia-container-toolkit{,-base} libnvidia-container-tools libnvidia-container1"
HEADER = """
import json, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
from dataclasses import asdict, replace
from pathlib import Path
from gpu import dpkg, nvidia_config, repository, toolkit
from gpu.inventory import GpuInventory, Place
from gpu.orders import fulfil
from gpu.toolkit import ToolkitWish, installed, order_driver_tools, order_jq, order_toolkit
from host import Layout, Trouble
layout, said = Layout(), []
WISH = ToolkitWish("1.20.0", {url!r}, {key!r})
def had(order, proxies={{}}):
    if order:
        fulfil(layout, order, proxies)
    return order is not None
def ensure(version="1.20.0", **other):
    wish = replace(WISH, version=version, **other)
    return had(order_toolkit(layout, wish, said.append), wish.proxies)
def trouble(call):
    try:
        return ["worked", call()]
    except Trouble as error:
        return [str(error), error.retry]
"""
RUNC = "/opt/concourse/bin/runc.real"


class Bench:
    """Runs code against the machine's apt and dpkg."""

    def __init__(self, machine: Machine, world: World, inside: Inside) -> None:
        options = world.options()
        url, key = options["nvidia-repository-url"], options["nvidia-repository-key"]
        self._header = HEADER.format(url=url, key=key)
        self._inside = inside
        self.machine, self.url = machine, url
        self.log: list[str] = []

    def run(self, code: str) -> Any:
        """Run code inside, and return what it puts into `answer`."""
        script = f"{self._header}{textwrap.dedent(code)}\nprint(json.dumps(answer))\n"
        done = self._inside(script, timeout=120)
        self.log = done.stderr.splitlines()
        return json.loads(done.stdout.splitlines()[-1])

    def sh(self, script: str) -> str:
        return self.machine.run(["bash", "-euc", script], timeout=120).stdout

    def versions(self) -> set[str]:
        form = "${db:Status-Status}=${Version}\\n"
        listed = self.sh(f"dpkg-query -W -f '{form}' {NAMES} || true").split()
        return {line.removeprefix("installed=") for line in listed if "not-installed" not in line}

    def apt_starts(self) -> int:
        return self.sh("cat /var/log/apt/history.log 2>/dev/null || true").count("Commandline:")


@pytest.fixture
def bench(machine: Machine, world: World, inside: Inside) -> Iterator[Bench]:
    """The machine without the toolkit, and again so afterwards."""
    bench = Bench(machine, world, inside)
    yield bench
    bench.sh(
        "rm -f /etc/apt/sources.list.d/theirs.* /etc/apt/apt.conf.d/99test;"
        "apt-mark showhold | xargs -r apt-mark -q unhold >/dev/null;"
        f"dpkg --purge --force-all {NAMES} {{nvidia-utils,libnvidia-compute}}-580 >/dev/null;"
        "rm -rf /var/lib/concourse-ci-machine /etc/nvidia-container-runtime /etc/concourse"
        " /usr/share/keyrings/nvidia-* /etc/apt/{sources,preferences}*/concourse-ci-machine*"
        " /var/lib/apt/lists/*libnvidia*"
    )


def test_a_fresh_machine_to_an_installed_toolkit_and_back(bench: Bench) -> None:
    before = bench.sh("find /etc/apt /usr/share/keyrings /var/lib/apt/lists -type f | sort")
    assert bench.run("answer = ensure()") is True
    assert [line for line in bench.log if "ontainer" in line] == [
        "Setting up NVIDIA Container Toolkit repository...",
        "Installing nvidia-container-toolkit...",
        "nvidia-container-toolkit installed",
    ]
    assert bench.versions() == {"1.20.0-1"}
    assert "/usr/bin/nvidia-container-runtime" in bench.sh("command -v nvidia-container-runtime")
    assert bench.sh("find /var/cache/apt/archives -name '*nvidia*.deb'") == ""

    starts = bench.apt_starts()
    assert bench.run("answer = ensure()") is False
    assert bench.apt_starts() == starts

    assert bench.run("answer = [toolkit.undo(layout), toolkit.undo(layout)]") == [True, False]
    after = bench.sh("find /etc/apt /usr/share/keyrings /var/lib/apt/lists -type f | sort")
    assert after == before
    assert bench.versions() == {"1.20.0-1"}


def test_the_pin_holds_against_a_newer_version(bench: Bench) -> None:
    bench.run("answer = ensure()")
    bench.sh("apt-get -qq update")
    assert "1.20.1-1" in bench.sh("apt-cache madison nvidia-container-toolkit")
    assert "nvidia" not in bench.sh("apt-get -s dist-upgrade")


def test_the_charms_own_follow_the_wish_up_and_down(bench: Bench) -> None:
    found = bench.run(
        "answer = [[ensure(v), asdict(installed(layout))] for v in "
        "('1.20.0', '1.20.1', '1.18.2-1')]"
    )
    assert found == [
        [True, {"version": version, "ours": True, "held": False}]
        for version in ("1.20.0-1", "1.20.1-1", "1.18.2-1")
    ]


def test_a_wrong_key_is_refused_and_nothing_is_installed(bench: Bench) -> None:
    wrong = bench.sh(
        "gpg='gpg --homedir /run/wrong --batch --quiet'; mkdir -m 700 /run/wrong;"
        "$gpg --passphrase '' --quick-generate-key 'wrong <w@localhost>' rsa2048 sign never;"
        "$gpg --armor --export; gpgconf --homedir /run/wrong --kill all"
    )
    said, retry = bench.run(f"answer = trouble(lambda: ensure(repository_key={wrong!r}))")
    assert "the key doesn't fit the repository's signature" in said
    assert retry is False
    assert bench.versions() == set()
    assert bench.run("answer = ensure()") is True


def test_a_version_that_is_not_there_is_said_with_those_that_are(bench: Bench) -> None:
    said, _ = bench.run("answer = trouble(lambda: ensure('1.19.0'))")
    assert "1.19.0 is not in the repository (it has 1.20.1, 1.20.0, 1.18.2, 1.17.0)" in said


def test_an_unreachable_repository_is_said_within_its_limit(bench: Bench) -> None:
    said, retry = bench.run(
        "answer = trouble(lambda: ensure(repository_url='http://127.0.0.1:9/stable/deb'))"
    )
    assert "the repository can't be reached" in said
    assert retry is True


def theirs(bench: Bench, version: str) -> str:
    """Install the toolkit as an operator would, from a source of his own."""
    specs = " ".join(f"{name}={version}" for name in bench.sh(f"echo {NAMES}").split())
    bench.sh(
        f"echo 'deb [trusted=yes] {bench.url}/$(ARCH) /' > /etc/apt/sources.list.d/theirs.list;"
        f"apt-get -qq update; apt-get -qq install -y --allow-downgrades {specs} >/dev/null"
    )
    return bench.sh("cat /etc/apt/sources.list.d/theirs.list")


def test_others_packages_are_left_alone_unless_unsafe(bench: Bench) -> None:
    source = theirs(bench, "1.18.2-1")
    assert bench.run("answer = ensure()") is False
    assert bench.versions() == {"1.18.2-1"}

    theirs(bench, "1.17.0-1")
    bench.sh("apt-mark -q hold nvidia-container-toolkit-base")
    said, retry = bench.run("answer = trouble(ensure)")
    assert said == (
        "nvidia-container-toolkit-base is held at 1.17.0-1, below the safe floor of 1.18.2"
        " (CVE-2025-23266): sudo apt-mark unhold nvidia-container-toolkit-base"
    )
    assert retry is False

    bench.sh("apt-mark -q unhold nvidia-container-toolkit-base")
    assert bench.run("answer = [ensure(), installed(layout).ours]") == [True, False]
    assert bench.versions() == {"1.20.0-1"}
    assert bench.sh("cat /etc/apt/sources.list.d/theirs.list") == source
    assert bench.sh("ls /etc/apt/*.d/concourse* 2>/dev/null || true") == ""
    bench.sh("apt-get -qq update")


def test_a_dpkg_that_was_killed_is_mended(bench: Bench) -> None:
    # The package's script reads config.toml; a pipe in its place makes it wait for ever.
    config = "/etc/nvidia-container-runtime/config.toml"
    bench.machine.write(
        "/etc/apt/apt.conf.d/99test",
        f'DPkg::Pre-Install-Pkgs {{"mkdir -p $(dirname {config}); mkfifo {config}; true"; }};\n',
    )
    said: list[Any] = []
    hook = threading.Thread(target=lambda: said.append(bench.run("answer = trouble(ensure)")))
    hook.start()
    bench.sh(
        "for i in $(seq 300); do"
        "  pid=$(pgrep -f '[/]nvidia-ctk config' | head -1) && [ -n \"$pid\" ] && break; sleep 0.1;"
        "done; kill -9 $(pgrep -x apt-get) $(pgrep -x dpkg) $pid"
    )
    hook.join(timeout=60)
    assert "installing nvidia-container-toolkit" in said[0][0]
    assert any("installed=" not in line for line in bench.versions()) or not bench.versions()
    bench.sh("rm /etc/apt/apt.conf.d/99test")
    assert bench.run("answer = [installed(layout).version, ensure()]") == ["", True]
    assert "Finishing an interrupted dpkg run" in bench.log
    assert bench.run("answer = installed(layout).version") == "1.20.0-1"
    assert bench.sh("dpkg --audit") == ""


def test_a_broken_config_does_not_leave_the_package_half_configured(bench: Bench) -> None:
    bench.run("answer = ensure()")
    bench.machine.write("/etc/nvidia-container-runtime/config.toml", "runtimes = [")
    assert bench.run("answer = ensure('1.20.1')") is True
    assert bench.sh("dpkg --audit") == ""
    assert bench.sh("cat /etc/nvidia-container-runtime/config.toml.unusable") == "runtimes = ["


def test_the_machines_config_through_an_upgrade_and_back(bench: Bench) -> None:
    config = "/etc/nvidia-container-runtime/config.toml"
    bench.run("answer = ensure()")
    bench.machine.write(config, "# mine\n" + bench.machine.read(config), mode=0o640)
    before = bench.machine.read(config)
    edit = (
        f"answer = nvidia_config.ensure_host_config(layout, runtime=Path({RUNC!r}),"
        " no_cgroups=True)"
    )
    assert bench.run(edit) is True
    assert f'runtimes = ["{RUNC}"]' in bench.machine.read(config)
    assert bench.run("answer = nvidia_config.undo(layout)") is True
    assert bench.machine.read(config) == before
    assert bench.sh(f"stat -c %a {config}").strip() == "640"

    bench.run(edit)
    bench.run("answer = ensure('1.20.1')")
    assert "# mine" not in bench.machine.read(config)
    assert bench.run(edit) is False
    bench.run("answer = nvidia_config.undo(layout)")
    assert RUNC not in bench.machine.read(config)
    assert 'runtimes = ["runc", "crun"]' in bench.machine.read(config)


TOOLS = """
seen = GpuInventory(module={module!r}, smi_present={smi}, place=Place("lxd", "juju-1", True))
answer = trouble(lambda: had(order_driver_tools(layout, seen, {{}}, said.append)))
"""


def test_nvidia_utils_of_exactly_the_modules_version_stay_at_it(bench: Bench) -> None:
    assert bench.run(TOOLS.format(module=OLDER_DRIVER, smi=False)) == ["worked", True]
    assert "nvidia-utils installed" in bench.log
    installed = "dpkg-query -W -f '${Version} ' nvidia-utils-580 libnvidia-compute-580"
    assert bench.sh(installed).split() == [f"{OLDER_DRIVER}-0ubuntu0.24.04.1"] * 2
    assert "nvidia" not in bench.sh("apt-get -s dist-upgrade")
    assert bench.run(TOOLS.format(module=OLDER_DRIVER, smi=True)) == ["worked", False]

    assert bench.run(TOOLS.format(module=DRIVER, smi=True)) == ["worked", True]
    assert bench.sh(installed).split() == [f"{DRIVER}-0ubuntu0.24.04.1"] * 2

    said, _ = bench.run(TOOLS.format(module="580.1.1", smi=False))
    assert "nvidia-utils of the loaded driver 580.1.1 can't be had" in said


def test_jq_comes_from_the_distribution(bench: Bench) -> None:
    bench.sh("apt-get -qq purge -y jq >/dev/null")
    twice = "answer = [had(order_jq(layout, said.append)) for _ in '12']"
    assert bench.run(twice) == [True, False]
    assert bench.sh("echo '{\"a\": 1}' | jq .a").strip() == "1"


@settings(max_examples=60, deadline=None)
@given(st.text("0129.~+ab", max_size=5), st.text("0129.~+ab", max_size=5), st.booleans())
def test_versions_are_ordered_as_dpkg_orders_them(one: str, other: str, revision: bool) -> None:
    one, other = f"1{one}", f"1{other}-1" if revision else f"1{other}"
    done = subprocess.run(
        ["/usr/bin/dpkg", "--compare-versions", one, "lt", other], capture_output=True, check=False
    )
    assume(not done.stderr)
    assert older(one, other) == (done.returncode == 0)
