"""The charm under ops.testing, with one stateful fake in the workload's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ops import testing

import charm
from tests.unit.charm_fakes import FakeWorkload, key, web


def state(*relations: testing.Relation, **config: Any) -> testing.State:
    options = {name.replace("_", "-"): value for name, value in config.items()}
    return testing.State(
        config={"deployment-mode": "worker", **options},
        relations=list(relations),
        resources={testing.Resource(name="concourse", path="/dev/null")},  # not attached
    )


def event(context: testing.Context[charm.ConcourseCharm], name: str) -> Any:
    return getattr(context.on, name)()


@pytest.mark.parametrize(
    "name",
    ["install", "start", "config_changed", "upgrade_charm", "update_status", "leader_elected"],
)
def test_every_event_leads_to_the_same_reconcile(
    name: str, context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    out = context.run(event(context, name), state(web(), enable_gpu=True))
    assert len(workload.wishes) == 1
    assert out.unit_status == testing.ActiveStatus("Worker ready (GPU: 1x NVIDIA)")
    assert context.workload_version_history[-1:] in ([], ["8.3.0"])
    assert out.workload_version == "8.3.0"


@pytest.mark.parametrize(
    "name", ["relation_created", "relation_joined", "relation_changed", "relation_departed"]
)
def test_relation_events_lead_to_it_too(
    name: str, context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    relation = web()
    context.run(event_on(context, name, relation), state(relation))
    assert workload.wish.web is not None
    assert workload.wish.web.hosts == ("10.0.0.2:2222",)


def event_on(
    context: testing.Context[charm.ConcourseCharm], name: str, relation: testing.Relation
) -> Any:
    return getattr(context.on, name)(relation)


def test_a_broken_relation_is_no_web_any_more(
    context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    relation = web()
    out = context.run(context.on.relation_broken(relation), state(relation))
    assert not workload.wish.related
    assert out.unit_status == testing.BlockedStatus(
        "No web: juju relate WEB:web-tsa concourse-ci-machine:worker-tsa"
    )


@pytest.mark.parametrize(
    ("name", "at_once"),
    [("config_changed", True), ("upgrade_charm", True), ("update_status", False)],
)
def test_what_failed_is_tried_at_once_only_when_the_operator_changed_something(
    name: str,
    at_once: bool,
    context: testing.Context[charm.ConcourseCharm],
    workload: FakeWorkload,
) -> None:
    context.run(event(context, name), state(web()))
    assert workload.wishes[-1][1] is at_once


def test_the_worker_publishes_its_name_and_key(
    context: testing.Context[charm.ConcourseCharm],
) -> None:
    relation = web()
    out = context.run(context.on.relation_joined(relation), state(relation))
    bag = out.get_relation(relation.id).local_unit_data
    assert bag["worker-name"] == "concourse-ci-machine-0"
    assert bag["worker-public-key"] == key()


def test_a_key_that_the_web_has_already_is_not_news(
    context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    relation = web()
    out = context.run(context.on.relation_joined(relation), state(relation))
    assert workload.key_was_known is False
    context.run(context.on.update_status(), out)
    assert workload.key_was_known is True


def test_something_long_shows_as_maintenance_while_it_runs(
    context: testing.Context[charm.ConcourseCharm],
) -> None:
    context.run(context.on.install(), state())
    assert testing.MaintenanceStatus("Downloading Concourse 8.3.0 (43 %)") in (
        context.unit_status_history
    )


BAD = {
    "deployment-mode": ["", "Worker", "worker;id", "x" * 5000],
    "concourse-version": ["", "8", "8.3", "latest", "8.3.0/../..", "8.3.0\nX=1", "٨.٣.٠"],
    "concourse-release-url": [
        "",
        "ftp://x",
        "http://a b",
        'http://x"',
        "file:///etc",
        "http://[::1",
    ],
    "concourse-sha256": ["abc", "g" * 64, "a" * 63],
    "log-level": ["", "trace", "INFO"],
    "containerd-dns-server": ["localhost", "1.2.3", "1.1.1.1,", "1.1.1.1\nX=1"],
    "baggageclaim-driver": ["", "zfs"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option in BAD for value in BAD[option]]
)
def test_a_bad_option_gets_one_sentence_and_changes_nothing(
    option: str,
    value: str,
    context: testing.Context[charm.ConcourseCharm],
    workload: FakeWorkload,
) -> None:
    given = state(web())
    given = replace(given, config={**given.config, option: value})
    out = context.run(context.on.config_changed(), given)
    assert not workload.wishes
    assert isinstance(out.unit_status, testing.BlockedStatus)
    message = out.unit_status.message
    assert message.startswith(f"{option}=")
    assert "\n" not in message
    assert len(message) <= 150


GPU_BAD: dict[str, list[str | int]] = {
    "gpu-device-ids": ["", "0,,1", "GPU-", "0;rm -rf /", "-1", "all,0"],
    "gpu-driver-capabilities": ["", "compute,magic", "compute utility"],
    "gpu-worker-tags": ["", "a,,b", "a b", "a\nb"],
    "gpu-sharing": ["", "all", "Exclusive", "shared,balanced"],
    "gpu-lease-timeout": [-1, 241],
    "nvidia-toolkit-version": ["", "latest", "1.17.7", "1.20.0; id"],
    "nvidia-repository-url": ["", "nvidia.github.io", "https://x y", "https://x\ndeb"],
    "nvidia-repository-key": ["hello", "-----BEGIN PGP PUBLIC KEY BLOCK-----\nx\n"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option in GPU_BAD for value in GPU_BAD[option]]
)
def test_a_bad_gpu_option_gets_its_sentence_and_the_worker_goes_on(
    option: str,
    value: str | int,
    context: testing.Context[charm.ConcourseCharm],
    workload: FakeWorkload,
) -> None:
    given = state(web(), enable_gpu=True)
    given = replace(given, config={**given.config, option: value})
    out = context.run(context.on.config_changed(), given)
    assert workload.wish.gpu is None
    assert isinstance(out.unit_status, testing.BlockedStatus)
    message = out.unit_status.message
    assert option in message
    assert "\n" not in message
    assert len(message) <= 200
    assert workload.wish.gpu_error == message


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
def test_the_limit_of_tasks_is_the_operators_unless_gpus_are_exclusive(
    sharing: str, context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    given = state(web(), enable_gpu=True)
    own = {"worker-env": "CONCOURSE_MAX_ACTIVE_TASKS=3", "gpu-sharing": sharing}
    out = context.run(context.on.config_changed(), replace(given, config={**given.config, **own}))
    if sharing == "exclusive":
        assert out.unit_status == testing.BlockedStatus(
            "worker-env, line 1: CONCOURSE_MAX_ACTIVE_TASKS is set by the charm"
        )
    else:
        assert workload.wish.worker_env == {"CONCOURSE_MAX_ACTIVE_TASKS": "3"}


def test_gpu_options_are_not_looked_at_while_the_gpu_is_off(
    context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    out = context.run(context.on.config_changed(), state(web(), gpu_device_ids="nonsense"))
    assert out.unit_status == testing.ActiveStatus("Worker ready")
    assert workload.wish.gpu_error == ""


def test_the_webs_version_counts(
    context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    relation = web(**{"tsa-host-public-key": key(), "concourse-version": "8.2.5"})
    context.run(context.on.config_changed(), state(relation, concourse_version="8.3.0"))
    assert workload.wish.release.version == "8.2.5"


def test_a_web_that_publishes_nonsense_is_named(
    context: testing.Context[charm.ConcourseCharm],
) -> None:
    relation = web(**{"tsa-host-public-key": "ssh-rsa nonsense"})
    out = context.run(context.on.relation_changed(relation), state(relation))
    assert out.unit_status.message.startswith(
        "The related web's data can't be used: tsa-host-public-key is not one public-key line"
    )


def test_the_models_proxies_reach_the_release_the_toolkit_and_the_worker(
    monkeypatch: pytest.MonkeyPatch,
    context: testing.Context[charm.ConcourseCharm],
    workload: FakeWorkload,
) -> None:
    monkeypatch.setenv("JUJU_CHARM_HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("JUJU_CHARM_NO_PROXY", "10.0.0.0/8")
    context.run(context.on.config_changed(), state(web(), enable_gpu=True))
    wanted = {"https_proxy": "http://proxy:3128", "no_proxy": "10.0.0.0/8"}
    assert workload.wish.proxies == wanted
    assert workload.wish.release.proxies == wanted
    assert workload.wish.gpu is not None
    assert workload.wish.gpu.toolkit.proxies == wanted


def test_an_attached_release_is_used_and_an_empty_one_is_not(
    tmp_path: Path, context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    attached = tmp_path / "concourse.tgz"
    attached.write_bytes(b"")
    given = replace(state(), resources={testing.Resource(name="concourse", path=attached)})
    context.run(context.on.upgrade_charm(), given)
    assert workload.attached is None
    attached.write_bytes(b"content")
    context.run(context.on.upgrade_charm(), given)
    assert workload.attached == attached


@pytest.mark.parametrize("name", ["stop", "remove"])
def test_stop_and_remove_take_the_worker_out(
    name: str, context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    out = context.run(event(context, name), state(web()))
    assert workload.removed == 1
    assert not workload.wishes
    assert out.unit_status == testing.MaintenanceStatus("Concourse is removed from this machine")


def test_a_stop_that_could_not_remove_everything_says_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
    context: testing.Context[charm.ConcourseCharm],
    workload: FakeWorkload,
) -> None:
    monkeypatch.setattr(workload, "remove", lambda: None)
    out = context.run(context.on.stop(), state(web()))
    assert out.unit_status == testing.ActiveStatus("Worker ready")


def test_retry_gpu_reconciles_at_once_and_shows_the_status(
    context: testing.Context[charm.ConcourseCharm], workload: FakeWorkload
) -> None:
    context.run(context.on.action("retry-gpu"), state(web(), enable_gpu=True))
    assert workload.wishes[-1][1] is True
    assert context.action_results == {"status": "Worker ready (GPU: 1x NVIDIA)"}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "enable-gpu is false"),
        ({"enable_gpu": True, "gpu_device_ids": "x"}, "gpu-device-ids"),
        ({"log_level": "x"}, "log-level"),
    ],
)
def test_retry_gpu_says_why_it_can_do_nothing(
    config: dict[str, Any],
    reason: str,
    context: testing.Context[charm.ConcourseCharm],
    workload: FakeWorkload,
) -> None:
    with pytest.raises(testing.ActionFailed, match=reason):
        context.run(context.on.action("retry-gpu"), state(web(), **config))
    assert not workload.wishes
