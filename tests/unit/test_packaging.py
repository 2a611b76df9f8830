"""What Juju, charmcraft and people read: the files agree with each other and with the code."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from concourse import release

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOSTS = re.compile(r"https?://([^/\"\s]+)")


def load(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


METADATA = load("metadata.yaml")
CHARMCRAFT = load("charmcraft.yaml")
OPTIONS: dict[str, dict[str, Any]] = load("config.yaml")["options"]
ACTIONS: dict[str, dict[str, Any]] = load("actions.yaml")
TYPES = {"string": str, "boolean": bool, "int": int}


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_option_has_type_and_default_and_says_what_bad_input_does(name: str) -> None:
    option = OPTIONS[name]
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", name)
    if option["type"] == "secret":  # Juju takes no default for one
        assert "default" not in option
    else:
        assert isinstance(option["default"], TYPES[option["type"]])
    assert "Default:" in option["description"]
    if option["type"] != "boolean":  # Juju itself refuses anything but true and false
        assert re.search(r"block(s|ed)", option["description"])


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_action_takes_no_unknown_parameter_and_stands_in_the_readme(name: str) -> None:
    assert ACTIONS[name]["additionalProperties"] is False
    assert ACTIONS[name]["description"]
    assert name in README


def test_every_endpoint_says_whether_it_is_optional() -> None:
    for role in ("provides", "requires", "peers"):
        for endpoint in METADATA.get(role, {}).values():
            assert isinstance(endpoint["optional"], bool)


def test_defaults_are_pinned_and_agree_with_the_code_and_the_readme() -> None:
    version = OPTIONS["concourse-version"]["default"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert f"concourse-{version}-linux-amd64.tgz" in README
    assert OPTIONS["concourse-release-url"]["default"] == release.DEFAULT_URL
    assert re.fullmatch(r"\d+\.\d+\.\d+", OPTIONS["nvidia-toolkit-version"]["default"])


def test_charmcraft_repeats_what_metadata_says() -> None:
    links = CHARMCRAFT["links"]
    assert CHARMCRAFT["title"] == METADATA["display-name"]
    assert links["documentation"] == METADATA["docs"]
    for key in ("issues", "source", "website"):
        assert links[key] == METADATA[key]


def test_packed_files_carry_the_names_of_the_deployment_guide() -> None:
    names = [f"{METADATA['name']}_{platform}.charm" for platform in CHARMCRAFT["platforms"]]
    assert names[0] == "concourse-ci-machine_ubuntu-22.04-amd64.charm"
    assert f"./{names[0]}" in README


def test_lock_file_names_public_addresses_only() -> None:
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    hosts = set(HOSTS.findall(lock))
    assert len(hosts) == 2, "the index and where its files lie"
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)+", host) for host in hosts), "no port, no address"
    assert "http://" not in lock
    assert not re.search(r"(path|directory|editable) = ", lock)


def test_ci_finds_the_readmes_commands() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    heading = re.search(r"block '([^']+)'", script)
    assert heading is not None
    _, _, below = README.partition(f"\n## {heading[1]}\n")
    block = below.partition("```sh\n")[2].partition("```")[0]
    assert block.splitlines()[-1] == ".venv/bin/tox"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yml")), ids=lambda p: p.name)
def test_example_is_a_pipeline_of_tagged_tasks(path: Path) -> None:
    pipeline = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert f"examples/{path.name}" in README
    for job in pipeline["jobs"]:
        for step in job["plan"]:
            assert step["tags"] == ["gpu"]
            assert step["config"]["platform"] == "linux"
            assert step["config"]["run"]["path"]


def test_icon_is_100_by_100() -> None:
    head = (ROOT / "icon.svg").read_text(encoding="utf-8")[:200]
    assert 'width="100"' in head
    assert 'height="100"' in head


class TestCheck:
    """packing/check, on small charms made up here."""

    MANIFEST = "bases:\n- name: ubuntu\n  channel: '22.04'\n  architectures:\n  - amd64\n"
    NEEDED = (
        "dispatch",
        "src/charm.py",
        "lib/host.py",
        *(f"templates/{path.name}" for path in sorted((ROOT / "templates").iterdir())),
        "metadata.yaml",
        "config.yaml",
        "actions.yaml",
        "LICENSE",
        "icon.svg",
        "venv/ops/__init__.py",
        "venv/jinja2/__init__.py",
        "venv/tomlkit/__init__.py",
        "venv/charmhelpers/__init__.py",
        "venv/charmlibs/interfaces/tls_certificates/__init__.py",
    )

    def check(
        self, tmp_path: Path, tag: str, module: str, machine: int, *, without: str = ""
    ) -> tuple[int, str]:
        charm = tmp_path / "made-up.charm"
        with zipfile.ZipFile(charm, "w") as out:
            for name in self.NEEDED:
                if name == without:
                    continue
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o755 << 16
                out.writestr(entry, "")
            out.writestr("manifest.yaml", self.MANIFEST)
            out.writestr("venv/a-1.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
            out.writestr(f"venv/a/{module}", b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little"))
        done = subprocess.run(
            [sys.executable, str(ROOT / "packing/check"), str(charm)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("tag", "module"),
        [
            ("cp310-cp310-manylinux_2_17_x86_64", "a.cpython-310-x86_64-linux-gnu.so"),
            ("cp38-abi3-manylinux_2_28_x86_64", "a.abi3.so"),
            ("py3-none-any", "a.cpython-310-x86_64-linux-gnu.so"),
        ],
    )
    def test_takes_what_fits(self, tmp_path: Path, tag: str, module: str) -> None:
        assert self.check(tmp_path, tag, module, machine=62)[0] == 0

    @pytest.mark.parametrize(
        ("tag", "module", "machine"),
        [
            ("cp311-cp311-manylinux_2_17_x86_64", "a.abi3.so", 62),
            ("cp310-cp310-manylinux_2_17_aarch64", "a.abi3.so", 62),
            ("cp312-abi3-manylinux_2_17_x86_64", "a.abi3.so", 62),
            ("py3-none-any", "a.cpython-311-x86_64-linux-gnu.so", 62),
            ("py3-none-any", "a.abi3.so", 183),
        ],
    )
    def test_refuses_what_does_not_fit(
        self, tmp_path: Path, tag: str, module: str, machine: int
    ) -> None:
        status, said = self.check(tmp_path, tag, module, machine)
        assert status == 1
        assert "is for" in said or "is not for" in said

    @pytest.mark.parametrize("name", NEEDED)
    def test_refuses_a_charm_that_lacks_a_part(self, tmp_path: Path, name: str) -> None:
        status, said = self.check(tmp_path, "py3-none-any", "a.abi3.so", 62, without=name)
        assert status == 1
        assert f"{name} is missing" in said
