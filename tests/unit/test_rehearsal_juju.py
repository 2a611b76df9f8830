"""The stand-ins for Juju: what a tool prints, and what counts when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rehearsal.juju import defaults
from rehearsal.standins.agent import Hook
from rehearsal.standins.arguments import parse
from rehearsal.standins.model import Model, Relation, ToolError

SOURCE = Path(__file__).resolve().parents[2]


@pytest.fixture
def model() -> Model:
    relation = Relation("worker-tsa", 1, "web", ["web/0"], {"web": {"concourse-version": "8.3.0"}})
    return Model(config={"enable-gpu": True}, relations=[relation])


@pytest.fixture
def events() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def hook(model: Model, events: list[tuple[str, str]]) -> Hook:
    return Hook(model, lambda kind, text: events.append((kind, text)))


def test_arguments_in_every_spelling() -> None:
    given = parse(["--format=json", "--app", "-r", "db:3", "--log-level", "INFO", "-", "--", "-x"])
    assert given.words == ("-", "-x")
    assert given.options == {"format": "json", "r": "db:3", "log-level": "INFO"}
    assert given.flags == {"app"}


def test_defaults_are_those_that_yaml_reads() -> None:
    text = (SOURCE / "config.yaml").read_text()
    options = yaml.safe_load(text)["options"]
    written = {name: one["default"] for name, one in options.items() if "default" in one}
    assert defaults(text) == written
    # Juju passes on nothing for an option that has no default and isn't set.
    assert {one["type"] for name, one in options.items() if name not in written} == {"secret"}


def test_status_and_log_count_at_once(
    hook: Hook, model: Model, events: list[tuple[str, str]]
) -> None:
    hook.answer("status-set", ["--application=False", "Maintenance", "--", "Installing jq"], "")
    hook.answer("juju-log", ["--log-level", "INFO", "--", "jq installed"], "")
    assert model.status == ("maintenance", "Installing jq")
    assert events == [("status", "maintenance  Installing jq"), ("log", "INFO jq installed")]


def test_a_databag_counts_when_the_hook_has_ended_well(hook: Hook, model: Model) -> None:
    values = json.dumps({"worker-name": "worker-0", "gone": ""})
    model.relations[0].bag("worker/0")["gone"] = "x"
    hook.answer("relation-set", ["-r", "worker-tsa:1", "--file", "-"], values)
    read = json.loads(
        hook.answer("relation-get", ["--format=json", "-r", "worker-tsa:1", "-", "worker/0"], "")
    )
    assert read == {"worker-name": "worker-0"}
    assert model.relations[0].bag("worker/0") == {"gone": "x"}
    hook.flush()
    assert model.relations[0].bag("worker/0") == {"worker-name": "worker-0"}


def test_only_a_leader_writes_for_its_application(hook: Hook, model: Model) -> None:
    with pytest.raises(ToolError, match="not the leader"):
        hook.answer("relation-set", ["-r", "worker-tsa:1", "--app", "--file", "-"], '{"a": "b"}')
    model.leader = True
    hook.answer("relation-set", ["-r", "worker-tsa:1", "--app", "--file", "-"], '{"a": "b"}')
    hook.flush()
    assert model.relations[0].bag("worker") == {"a": "b"}


def test_relations_are_listed(hook: Hook) -> None:
    assert json.loads(hook.answer("relation-ids", ["worker-tsa", "--format=json"], "")) == [
        "worker-tsa:1"
    ]
    arguments = ["--format=json", "-r", "worker-tsa:1"]
    assert json.loads(hook.answer("relation-list", arguments, "")) == ["web/0"]
    assert json.loads(hook.answer("relation-list", [*arguments, "--app"], "")) == "web"


def test_a_relation_that_no_unit_joined_yet_has_its_application(hook: Hook, model: Model) -> None:
    model.relations[0].remote_units.clear()
    arguments = ["--format=json", "-r", "worker-tsa:1"]
    assert hook.answer("relation-list", arguments, "").strip() == "[]"
    assert hook.answer("relation-list", [*arguments, "--app"], "").strip() == '"web"'
    bag = hook.answer("relation-get", ["--format=json", "-r", "worker-tsa:1", "-", "web"], "")
    assert json.loads(bag) == {"concourse-version": "8.3.0"}


def test_what_is_not_there_is_an_error(hook: Hook) -> None:
    for tool, arguments in (
        ("resource-get", ["concourse"]),
        ("secret-get", ["secret:none", "--format=json"]),
        ("relation-list", ["-r", "db:7", "--format=json"]),
        ("no-such-tool", []),
    ):
        with pytest.raises(ToolError):
            hook.answer(tool, arguments, "")


def test_secrets_are_kept_and_revised(hook: Hook, model: Model) -> None:
    made = hook.answer("secret-add", ["--label", "key", "--owner", "unit", "value=1"], "").strip()
    hook.flush()
    assert json.loads(hook.answer("secret-get", ["--format=json", "--label", "key"], "")) == {
        "value": "1"
    }
    hook.answer("secret-set", [made, "value=2"], "")
    assert model.secrets[made].content == {"value": "1"}
    hook.flush()
    assert (model.secrets[made].content, model.secrets[made].revision) == ({"value": "2"}, 2)


def test_a_secret_is_found_by_its_whole_address(hook: Hook) -> None:
    made = hook.answer("secret-add", ["--owner", "unit", "value=1"], "").strip()
    address = made.replace("secret:", "secret://2f6c3b52-7f0e-4a8e-9a57-00c0ffee0000/")
    assert json.loads(hook.answer("secret-get", [address, "--format=json"], "")) == {"value": "1"}


def test_a_hook_sees_the_secret_that_it_makes_and_juju_after_it(hook: Hook, model: Model) -> None:
    made = hook.answer("secret-add", ["--label", "key", "--owner", "unit", "value=1"], "").strip()
    seen = hook.answer("secret-get", ["--format=json", "--label", "key"], "")
    assert json.loads(seen) == {"value": "1"}
    assert made not in model.secrets


def test_a_date_alone_makes_no_revision_of_a_secret(hook: Hook, model: Model) -> None:
    made = hook.answer("secret-add", ["--owner", "unit", "value=1"], "").strip()
    hook.answer("secret-set", [made, "--expire", "2027-01-01T00:00:00"], "")
    hook.flush()
    assert (model.secrets[made].content, model.secrets[made].revision) == ({"value": "1"}, 1)


def test_a_secret_is_listed_by_who_owns_it_until_it_is_removed(hook: Hook, model: Model) -> None:
    made = hook.answer("secret-add", ["--owner", "unit", "value=1"], "").strip()
    hook.answer("secret-add", ["--owner", "application", "value=1"], "")
    hook.flush()
    assert hook.answer("secret-ids", [], "") == f"{made}\n"  # it does not lead
    hook.answer("secret-remove", [made, "--revision", "1"], "")
    hook.answer("secret-remove", [made], "")
    hook.flush()
    assert hook.answer("secret-ids", [], "") == ""


def test_an_action_answers_in_its_own_way(hook: Hook) -> None:
    hook.answer("action-set", ["summary=11 pass", "gpu-0.name=L4"], "")
    hook.answer("action-fail", ["--", "a line failed"], "")
    assert hook.results == {"summary": "11 pass", "gpu-0.name": "L4"}
    assert hook.failure == "a line failed"
