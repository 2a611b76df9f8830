"""Options, users' secrets and actions that hold what nobody would write by mistake."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st
from ops import testing
from scenario.errors import InconsistentScenarioError

from tests.chaos.frame import Chaos
from tests.chaos.hostile import PIECES, huge, sentence, texts
from tests.chaos.hostile_hooks import MARK, PROMISE, Trial, fuzz, layout, trial
from tests.chaos.hostile_options import BAD, OPTIONS
from tests.chaos.hostile_states import ROLES, database, peers, state, tsa, workers
from tests.unit.toolkit_roots import KEY

__all__ = ["layout", "trial"]

ROOT = Path(__file__).resolve().parents[2]
CONFIG: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "config.yaml").read_text())["options"]
ACTIONS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "actions.yaml").read_text())
NAMES = sorted(name for name, option in CONFIG.items() if option["type"] != "secret")
TEXTS = [name for name in NAMES if CONFIG[name]["type"] == "string"]
BASE = {"enable-gpu": True, "nvidia-repository-key": KEY}
MODES = tuple(ROLES)


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Return what Juju lets into an option: its type is all that it checks."""
    kind = CONFIG[name]["type"]
    if kind == "boolean":
        return st.booleans()
    if kind == "int":
        edges = (-1, 0, 1, 2222, 65535, 65536, 2**31, 2**63, -(2**63))
        return st.one_of(
            st.integers(-(2**63), 2**63 - 1), st.integers(0, 1500), st.sampled_from(edges)
        )
    return texts(*OPTIONS[name].good, str(CONFIG[name].get("default", "")))


def try_option(trial: Trial, name: str, mode: str, value: object) -> bool | None:
    """Run a unit with one option; return whether it was taken, None if nobody looks at it.

    What is refused leaves the files as they were, and a blocked status that names it; what is
    taken is what its readers find.
    """
    option = OPTIONS[name]
    config = {**BASE, "deployment-mode": mode, name: value}
    web = tsa(**{"concourse-version": ""})  # a web's release would come before the option
    held = trial.hold(state(config, [web, peers(), database(), workers()]))
    if option.reader and {"gpu": "worker"}.get(option.reader, option.reader) not in ROLES[mode]:
        assert held.active, held.message
        return None
    if held.refused:
        assert held.blocked, held.message
        assert re.search(rf"(^|[^\w-]){name}($|[^\w-])", held.message) or (
            # web-env is named by the variable where two sources of it don't fit together
            name == "web-env" and "CONCOURSE_" in held.message
        ), held.message
        assert held.wish or not held.wrote
        return False
    text = str(value) if name.endswith("-env") else str(value).strip()
    assert re.fullmatch(option.takes, text), text
    assert option.reads(held, text), (text, held.files)
    if (name, value) == ("tls-enabled", True):
        assert "no certificate" in held.message
    else:
        assert held.active, held.message
    return True


def test_every_option(chaos: Chaos, trial: Trial) -> None:
    assert sorted(OPTIONS) == NAMES
    for name in chaos.part(NAMES, quick=len(NAMES)):
        before = trial.workload.checked["apt"]
        for value in OPTIONS[name].good:
            assert try_option(trial, name, "all", value), f"{name}={value!r} was refused"
        for value in BAD.get(name, ()):
            assert try_option(trial, name, "all", value) is False, f"{name}={value!r} was taken"
        one = st.tuples(st.sampled_from(MODES), values_of(name))
        check = partial(_try_drawn, trial, name)
        fuzz(chaos, name, one, check, full=14)
        if name in ("nvidia-repository-url", "nvidia-toolkit-version"):
            assert trial.workload.checked["apt"] >= before + 2 * len(OPTIONS[name].good)


def _try_drawn(trial: Trial, name: str, drawn: tuple[str, object]) -> None:
    try_option(trial, name, *drawn)


def test_a_name_in_the_certificates_request(chaos: Chaos, trial: Trial) -> None:
    """With TLS, external-url's host goes into a request, and is asked for once."""
    hosts = st.one_of(
        texts("https://ci.example.com", "https://[fe80::1]:8443", "https://10.0.0.9/x"),
        texts("ci.example.com", "fe80::1%25eth0", "a" * 70).map(lambda host: f"https://[{host}]"),
        texts("ci.example.com", "a_b..c", "*.x", "x" * 300).map(lambda host: f"https://{host}/"),
    )

    def check(url: str) -> None:
        config = {"deployment-mode": "web", "tls-enabled": True, "external-url": url}
        relation = testing.Relation("certificates", remote_app_name="ca")
        held = trial.hold(state(config, [peers(), database(), relation]))
        if held.wish is None:
            assert held.blocked, held.message
            assert "external-url" in held.message
        else:
            assert held.message == "Waiting for ca to sign the web's certificate"

    fuzz(chaos, "external-url with TLS", hosts, check, full=30)


def test_a_users_secret(chaos: Chaos, trial: Trial) -> None:
    known = st.sampled_from(("github-client-secret", "bind-port", "add-local-user"))
    keys = st.one_of(st.from_regex(r"[a-z](?:-?[a-z0-9]){2,20}", fullmatch=True), known)

    def check(content: dict[str, str]) -> None:
        secret = testing.Secret(content)
        config = {"deployment-mode": "web", "web-secret-env": secret.id}
        held = trial.hold(state(config, [peers(), database()], secrets=[secret]))
        for value in (one for one in content.values() if len(one) >= 8):
            assert value not in held.message
            assert not trial.logged(value)
        if held.refused:
            assert held.blocked, held.message
            assert re.search("web-secret-env|CONCOURSE_ADD_LOCAL_USER", held.message)
            return
        for key, value in content.items():
            name = f"CONCOURSE_{key.removeprefix('concourse-').replace('-', '_').upper()}"
            found = held.files["web"][name]
            assert found.endswith(re.sub(r"(\r\n|\n|\r)\Z", "", value)), name

    values = texts("user:password").filter(bool)
    drawn = st.dictionaries(keys, values, min_size=1, max_size=3)
    fuzz(chaos, "web-secret-env", drawn, check, full=80)


def test_a_megabyte_in_an_option(chaos: Chaos, trial: Trial) -> None:
    for name in chaos.part(TEXTS, quick=4):
        with chaos.case(PROMISE, name):
            good = next((str(one) for one in OPTIONS[name].good if one), "")
            several = chaos.dice(name).sample(huge(good), 2)
            if name == "nvidia-repository-key":  # of what its reader looks for, all
                several += [text for text in huge(KEY) if "PGP" in text[:200]]
            for text in several:
                try_option(trial, name, "all", text)


def test_parameters_of_actions(chaos: Chaos, trial: Trial) -> None:
    """Juju holds them to actions.yaml, as ops.testing does: what is left is one truth value."""
    given_state = state({**BASE, "deployment-mode": "all"}, [peers(), database()])

    def run(action: str, params: Mapping[str, Any]) -> None:
        trial.context.run(trial.context.on.action(action, params=params), given_state)

    with chaos.case(PROMISE, "actions"):
        known = {name: each.get("params", {}) for name, each in ACTIONS.items()}
        assert all(each["additionalProperties"] is False for each in ACTIONS.values())
        assert {name: list(params) for name, params in known.items() if params} == {
            "restart-services": ["force"]
        }
        assert known["restart-services"]["force"]["type"] == "boolean"
        assert known["restart-services"]["force"]["default"] is False
        for name in ACTIONS:
            for piece in chaos.dice(name).sample(PIECES, 5):
                with pytest.raises(InconsistentScenarioError):
                    run(name, {"force" if name == "restart-services" else piece: piece})
        for force in (True, False):
            trial.workload.restarts.clear()
            run("restart-services", {"force": force})
            assert trial.workload.restarts == [force]
            assert trial.context.action_results
            sentence(str(trial.context.action_results["status"]))
        assert not MARK.exists()


@pytest.mark.parametrize(
    "action", ["retry-gpu", "get-admin-password", "check-status", "restart-services", "drain"]
)
def test_an_action_of_a_unit_with_a_hostile_option(chaos: Chaos, trial: Trial, action: str) -> None:
    """It fails with the sentence that names the option, and does nothing."""

    def check(drawn: tuple[str, str]) -> None:
        name, value = drawn
        given_state = state({**BASE, "deployment-mode": "all", name: value}, [peers(), database()])
        params = {"force": True} if action == "restart-services" else {}
        event = trial.context.on.action(action, params=params)
        trial.workload.restarts.clear()
        with pytest.raises(testing.ActionFailed) as failed:
            trial.context.run(event, given_state)
        sentence(failed.value.message)
        assert name in failed.value.message
        assert not trial.workload.restarts
        assert not trial.workload.drained
        assert not MARK.exists()

    refused = st.sampled_from(PIECES).map(lambda piece: f"{piece} ")
    drawn = st.tuples(st.sampled_from(("log-level", "initial-admin-username")),
                      refused.map(lambda text: f"root {text}x"))  # fmt: skip
    fuzz(chaos, action, drawn, check, full=20)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_nothing_is_written_beside_the_machine(chaos: Chaos, trial: Trial, tmp_path: Path) -> None:
    config = {**BASE, "deployment-mode": "all", "worker-env": "CONCOURSE_X=../../y"}
    with chaos.case(PROMISE, "elsewhere"), working_in(tmp_path):
        trial.hold(state(config, [peers(), database(), tsa()]))
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert left == []
    assert shutil.which("ssh-keygen")
