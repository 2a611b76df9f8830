"""The machine's config.toml: two values in, everything else untouched, and back to the byte."""

from __future__ import annotations

import copy
import logging
import os
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.chain_config import chain_values
from gpu.nvidia_config import ensure_chain_config, ensure_host_config, mend, undo
from gpu.toml_edit import edited, values_of
from host import Layout
from tests.unit.killing import killed_before_change

RUNC = Path("/opt/concourse/bin/runc.real")

# As a fresh installation of nvidia-container-toolkit 1.20.0 leaves it, shortened.
PACKAGED = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"
#swarm-resource = "DOCKER_RESOURCE_GPU"

[nvidia-container-cli]
#debug = "/var/log/nvidia-container-toolkit.log"
environment = []
ldconfig = "@/sbin/ldconfig"
load-kmods = true
#no-cgroups = false

[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]  # the low-level ones

[nvidia-container-runtime.modes]

[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["cdi.k8s.io/"]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]

[nvidia-ctk]
path = "nvidia-ctk"
"""


def config(layout: Layout, text: str | bytes) -> Path:
    path = layout.nvidia_config
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values(path: Path) -> dict[str, Any]:
    return values_of(path.read_text())


def as_nvidia_ctk_rewrites(path: Path) -> None:
    """Values stay, comments go: what the package's script does on every upgrade."""
    path.write_text(tomlkit.dumps(values(path)))


def test_only_the_two_values_change_and_every_comment_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    expected = PACKAGED.replace('["runc", "crun"]', f'["{RUNC}"]')
    expected = expected.replace("#no-cgroups = false\n", "#no-cgroups = false\nno-cgroups = true\n")
    lines = [line for line in path.read_text().splitlines() if line]
    assert sorted(lines) == sorted(line for line in expected.splitlines() if line)
    assert values(path)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
    assert values(path)["nvidia-container-cli"]["no-cgroups"] is True


def test_a_second_time_writes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    before = (path.stat().st_ino, [file.stat().st_ino for file in layout.state.rglob("*")])
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert (path.stat().st_ino, [file.stat().st_ino for file in layout.state.rglob("*")]) == before


@pytest.mark.parametrize(
    "text",
    [
        PACKAGED,
        PACKAGED.replace("\n", "\r\n"),
        "\ufeff" + PACKAGED,
        PACKAGED.rstrip("\n"),
        "",
        "\n\n# nothing but a comment",
        'nvidia-container-runtime.runtimes = ["runc"]\nswarm-resource = "X"\n',
        'nvidia-container-runtime = { runtimes = ["runc"], mode = "legacy" }\n',
        (
            "[nvidia-container-runtime.modes.cdi]\nx = 1\n[a]\n"
            '[nvidia-container-runtime]\nmode = "cdi"\n'
        ),
        '[nvidia-container-runtime]\nruntimes = [\n  "runc", # first\n  "crun",\n]\n',
        "a.b = 1\n[[nvidia]]\nx = 1\n[[nvidia]]\nx = 2\n[nvidia-container-cli]\n[nvidia-ctk]\n",
    ],
)
def test_undoing_gives_the_file_back_to_the_byte(tmp_path: Path, text: str) -> None:
    layout = Layout(tmp_path)
    path = config(layout, text)
    before = values_of(text.removeprefix("\ufeff"))
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    before.setdefault("nvidia-container-runtime", {})["runtimes"] = [str(RUNC)]
    before.setdefault("nvidia-container-cli", {})["no-cgroups"] = True
    assert values(path) == before
    assert undo(layout)
    assert path.read_bytes() == text.encode()
    assert not undo(layout)


def test_mode_and_owner_stay_through_both(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    path.chmod(0o640)
    mine = (os.getuid(), os.getgid())
    if os.getuid() == 0:
        mine = (12, 34)
        os.chown(path, *mine)
    for step in (
        lambda: ensure_host_config(layout, runtime=RUNC, no_cgroups=False),
        lambda: undo(layout),
    ):
        assert step()
        status = path.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, *mine)


def test_a_missing_file_is_made_and_goes_again_with_its_folder(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.at("/etc").mkdir()
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert values(layout.nvidia_config) == {"nvidia-container-runtime": {"runtimes": [str(RUNC)]}}
    assert undo(layout)
    assert list(layout.at("/etc").iterdir()) == []


def test_a_file_that_the_charm_made_and_others_added_to_keeps_what_they_added(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    path = layout.nvidia_config
    path.write_text('swarm-resource = "X"\n' + path.read_text())
    assert undo(layout)
    assert values(path) == {"swarm-resource": "X"}


def test_after_the_packages_own_rewrite_nothing_is_edited_and_undoing_knows_the_values(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    as_nvidia_ctk_rewrites(path)
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    assert undo(layout)
    assert values(path) == values_of(PACKAGED)


def test_somebody_who_takes_the_value_away_gets_his_own_file_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    newer = PACKAGED.replace('mode = "auto"', 'mode = "legacy"')
    path.write_text(newer)
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert undo(layout)
    assert path.read_text() == newer


def test_his_own_file_with_one_of_the_charms_values_left_in_it_comes_back_without(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    path.write_text(path.read_text().replace(f'"{RUNC}"', '"youki"'))
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    assert undo(layout)
    expected = values_of(PACKAGED)
    expected["nvidia-container-runtime"]["runtimes"] = ["youki"]
    assert values(path) == expected


def test_a_change_of_the_wish_keeps_the_first_original(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=Path("/elsewhere/runc"), no_cgroups=False)
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    assert undo(layout)
    assert path.read_text() == PACKAGED


@pytest.mark.parametrize(
    ("by_hand", "after"),
    [
        (f'["{RUNC}"]', None),
        (f'["{RUNC}", "runc"]', ["runc"]),
        (f'["docker-runc", "{RUNC}"]', ["docker-runc"]),
    ],
)
def test_a_machine_set_up_by_hand_is_adopted_and_its_dead_path_taken_out(
    tmp_path: Path, by_hand: str, after: list[str] | None
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED.replace('["runc", "crun"]', by_hand))
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert values(path)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
    assert undo(layout)
    assert values(path)["nvidia-container-runtime"].get("runtimes") == after
    assert values(path)["nvidia-ctk"] == {"path": "nvidia-ctk"}


@pytest.mark.parametrize(
    "text",
    [
        b"runtimes = [",
        b"a = 1\na = 2\n",
        b"\xff\xfe\x00",
        b"nvidia-container-runtime = 5\n",
        b'[[nvidia-container-cli]]\nx = "y"\n',
        b"#" * 300_000,
        b"x = " + b"[" * 5000,
        b"d = 2026-13-45\n",
    ],
)
def test_a_file_that_cannot_be_used_is_kept_aside_and_said(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, text)
    config(layout, text).with_name("config.toml.unusable").write_text("of another day")
    with caplog.at_level(logging.WARNING):
        assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    aside = path.with_name("config.toml.unusable.2")
    assert aside.read_bytes() == text
    assert str(aside) in caplog.text
    assert values(path) == {"nvidia-container-runtime": {"runtimes": [str(RUNC)]}}
    assert undo(layout)
    assert not path.exists()
    assert aside.read_bytes() == text


def test_a_folder_or_a_pipe_in_its_place_is_kept_aside(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = layout.nvidia_config
    (path / "inside").mkdir(parents=True)
    assert mend(layout) == path.with_name("config.toml.unusable")
    os.mkfifo(path)
    assert mend(layout) == path.with_name("config.toml.unusable.2")
    assert mend(layout) is None
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)


def test_a_link_is_read_through_replaced_and_put_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    target = layout.at("/srv/config.toml")
    target.parent.mkdir()
    target.write_text(PACKAGED)
    path = layout.nvidia_config
    path.parent.mkdir(parents=True)
    path.symlink_to("../../srv/config.toml")
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert target.read_text() == PACKAGED
    assert values(path)["nvidia-container-cli"]["load-kmods"] is True
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert undo(layout)
    assert os.readlink(path) == "../../srv/config.toml"
    assert target.read_text() == PACKAGED


def test_a_damaged_memory_costs_no_more_than_the_bytes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    (layout.state / "gpu/nvidia-config.json").write_text("{")
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert undo(layout)
    expected = values_of(PACKAGED)
    del expected["nvidia-container-runtime"]["runtimes"]
    assert values(path) == expected


def test_a_file_that_broke_since_is_left_as_it_is(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    path.write_text("broken = [")
    undo(layout)
    assert path.read_text() == "broken = ["


@pytest.mark.parametrize("start", [PACKAGED, None])
def test_killed_at_any_point_the_next_run_and_the_undoing_end_the_same(
    tmp_path: Path, start: str | None
) -> None:
    number = 0
    while True:
        number += 1
        layout = Layout(tmp_path / str(number))
        layout.at("/etc").mkdir(parents=True)
        if start is not None:
            config(layout, start)

        def change(layout: Layout = layout) -> None:
            ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
            undo(layout)

        killed = killed_before_change(number, change)
        text = layout.nvidia_config.read_text() if layout.nvidia_config.exists() else ""
        assert values_of(text).get("nvidia-container-runtime", {}).get("runtimes") in (
            None,
            ["runc", "crun"],
            [str(RUNC)],
        )
        ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
        assert values(layout.nvidia_config)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
        undo(layout)
        if start is None:
            assert not layout.nvidia_config.exists()
        else:
            assert layout.nvidia_config.read_text() == start
        if not killed:
            break
    assert number > 5


# Random documents: any keys and values, our sections among them, in any order.
_keys = st.sampled_from(["runtimes", "no-cgroups", "mode", "x"]) | st.text(
    string.ascii_letters + string.digits + "-_ .é#\"'", min_size=1, max_size=8
)
_plain = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
    | st.datetimes()
)
_values = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=6,
)
_section = st.dictionaries(_keys, _values, max_size=4)
_documents = st.builds(
    lambda others, runtime, cli: {**others, **runtime, **cli},
    st.dictionaries(_keys, _values, max_size=3),
    st.just({}) | st.builds(lambda table: {"nvidia-container-runtime": table}, _section),
    st.just({}) | st.builds(lambda table: {"nvidia-container-cli": table}, _section),
)


@settings(max_examples=150, deadline=None)
@given(document=_documents, no_cgroups=st.booleans(), comment=st.booleans())
def test_any_document_keeps_its_other_values_and_comes_back_to_the_byte(
    document: dict[str, Any], no_cgroups: bool, comment: bool
) -> None:
    text = ("# hello\n" if comment else "") + tomlkit.dumps(document)
    expected = values_of(text)
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        path = config(layout, text)
        ensure_host_config(layout, runtime=RUNC, no_cgroups=no_cgroups)
        expected.setdefault("nvidia-container-runtime", {})["runtimes"] = [str(RUNC)]
        if no_cgroups:
            expected.setdefault("nvidia-container-cli", {})["no-cgroups"] = True
        assert values(path) == expected
        undo(layout)
        assert path.read_bytes() == text.encode()


def test_a_layout_that_tomlkit_cannot_edit_keeps_its_values() -> None:
    text = "[a.b]\nx = 1\n[c]\n[a]\ny = 2\n"
    new = edited(text, {("a", "y"): 3, ("c", "z"): True})
    assert values_of(new) == {"a": {"b": {"x": 1}, "y": 3}, "c": {"z": True}}


def test_the_chains_own_file_closes_the_side_doors(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    config(
        layout,
        'swarm-resource = "DOCKER_RESOURCE_GPU"\n'
        "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n"
        "accept-nvidia-visible-devices-as-volume-mounts = true\n"
        'supported-driver-capabilities = "compute,utility"\n'
        "[nvidia-container-cli]\n"
        'root = "/run/nvidia/driver"\nldconfig = "/sbin/ldconfig"\nload-kmods = true\n'
        "[nvidia-container-runtime]\n"
        'runtimes = ["runc"]\nmode = "bogus"\nlog-level = "loud"\ndebug = "/var/log/n.log"\n'
        "[nvidia-container-runtime.modes.cdi]\n"
        'annotation-prefixes = ["cdi.k8s.io/"]\nspec-dirs = ["/srv/cdi"]\n'
        "[nvidia-container-runtime.modes.legacy]\n"
        'cuda-compat-mode = "mount"\n'
        "[features]\n"
        "allow-ldconfig-from-container = true\nallow-cuda-compat-libs-from-container = true\n"
        "allow-unknown-oci-spec-fields = true\ndisable-cuda-compat-lib-hook = true\n",
    )
    assert ensure_chain_config(layout, runtime=RUNC, no_cgroups=True)
    assert not ensure_chain_config(layout, runtime=RUNC, no_cgroups=True)
    assert layout.chain_config.stat().st_mode & 0o777 == 0o644
    assert values(layout.chain_config) == {
        "accept-nvidia-visible-devices-envvar-when-unprivileged": True,
        "accept-nvidia-visible-devices-as-volume-mounts": False,
        "supported-driver-capabilities": "compute,utility",
        "nvidia-container-cli": {
            "root": "/run/nvidia/driver",
            "load-kmods": True,
            "no-cgroups": True,
        },
        "nvidia-container-runtime": {
            "runtimes": [str(RUNC)],
            "mode": "auto",
            "debug": "/var/log/n.log",
            "modes": {"cdi": {"annotation-prefixes": [], "spec-dirs": ["/srv/cdi"]}},
        },
        "features": {
            "ignore-imex-channel-requests": True,
            "disable-cuda-compat-lib-hook": True,
        },
    }
    undo(layout)
    assert layout.chain_config.exists(), "calls that are under way read it"


def test_without_a_machine_file_the_chain_has_one_all_the_same(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert ensure_chain_config(layout, runtime=RUNC, no_cgroups=False)
    assert values(layout.chain_config)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
    assert not layout.nvidia_config.exists()


@settings(max_examples=150, deadline=None)
@given(document=_documents)
def test_whatever_the_machines_file_says_the_doors_are_closed(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    made = chain_values(document, runtime=RUNC, no_cgroups=False)
    assert document == before
    assert made["accept-nvidia-visible-devices-as-volume-mounts"] is False
    assert "swarm-resource" not in made
    runtime = made["nvidia-container-runtime"]
    assert runtime["runtimes"] == [str(RUNC)]
    assert runtime["modes"]["cdi"]["annotation-prefixes"] == []
    assert runtime["mode"] in ("auto", "legacy", "csv", "cdi", "jit-cdi")
    assert values_of(tomlkit.dumps(made)) == made
