"""A worker in a real model: deploy, relate, switch the GPU on and off again.

The machine may have a GPU or none: the tests ask the charm what it saw, and check that
machine and status agree with that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_operator.plugin import OpsTest

WORKER = "worker"
UNIT = f"{WORKER}/0"
WEB = "web"
PATIENCE = 45 * 60  # seconds; Concourse's release is about 1 GB


def model_of(ops_test: OpsTest) -> Any:
    """Return the model; python-libjuju ships no types."""
    assert ops_test.model is not None
    return ops_test.model


def status_of(ops_test: OpsTest) -> str:
    """Return the worker's status line."""
    return str(model_of(ops_test).units[UNIT].workload_status_message)


async def wait_for_status(ops_test: OpsTest, text: str) -> None:
    """Wait until the worker's status line holds a text and its hooks are done."""
    model = model_of(ops_test)
    await model.block_until(lambda: text in status_of(ops_test), timeout=PATIENCE)
    await model.wait_for_idle(apps=[WORKER], raise_on_error=True, timeout=PATIENCE)


async def act(ops_test: OpsTest, name: str) -> tuple[str, dict[str, Any]]:
    """Run an action; return its status and results."""
    action = await model_of(ops_test).units[UNIT].run_action(name)
    action = await action.wait()
    return action.status, action.results


async def on_unit(ops_test: OpsTest, command: str) -> str:
    """Run a command on the worker's machine as root; return what it printed."""
    code, out, err = await ops_test.juju("exec", "--unit", UNIT, "--", command)
    assert code == 0, err
    return str(out).strip()


@pytest.mark.abort_on_fail
async def test_without_a_web_it_says_what_to_relate(
    ops_test: OpsTest, packed_charm: Path, web_charm: Path
) -> None:
    model = model_of(ops_test)
    await model.deploy(
        packed_charm, application_name=WORKER, config={"deployment-mode": "worker"}, num_units=1
    )
    await model.deploy(web_charm, application_name=WEB, num_units=1)
    await model.wait_for_idle(apps=[WEB], status="active", timeout=PATIENCE)
    await wait_for_status(ops_test, f"juju relate WEB:web-tsa {WORKER}:worker-tsa")
    assert model.units[UNIT].workload_status == "blocked"


@pytest.mark.abort_on_fail
async def test_related_it_starts_and_tries_to_register(ops_test: OpsTest) -> None:
    await model_of(ops_test).integrate(f"{WEB}:web-tsa", f"{WORKER}:worker-tsa")
    await wait_for_status(ops_test, "not registered")
    assert await on_unit(ops_test, "systemctl is-active concourse-worker") == "active"
    assert await on_unit(ops_test, "stat -c %a /etc/concourse/worker.env") == "600"


@pytest.mark.abort_on_fail
async def test_a_bad_option_gets_one_sentence_and_changes_nothing(ops_test: OpsTest) -> None:
    application = model_of(ops_test).applications[WORKER]
    await application.set_config({"log-level": "loud"})
    await wait_for_status(ops_test, "log-level='loud'")
    assert await on_unit(ops_test, "systemctl is-active concourse-worker") == "active"
    await application.reset_config(["log-level"])
    await wait_for_status(ops_test, "not registered")


@pytest.mark.abort_on_fail
async def test_gpu_on_and_off_again(ops_test: OpsTest) -> None:
    model = model_of(ops_test)
    before = await on_unit(ops_test, "sha256sum /opt/concourse/bin/runc")
    await model.applications[WORKER].set_config({"enable-gpu": "true"})
    await model.wait_for_idle(apps=[WORKER], raise_on_error=True, timeout=PATIENCE)
    status, seen = await act(ops_test, "gpu-status")
    assert status == "completed"
    assert seen["diagnosis"]
    _, verified = await act(ops_test, "verify-gpu")
    assert "checklist" in verified
    kind = await on_unit(ops_test, "stat -c %F /opt/concourse/bin/runc")
    assert (kind == "symbolic link") == (int(seen["usable"]) > 0)

    await model.applications[WORKER].set_config({"enable-gpu": "false"})
    await model.wait_for_idle(apps=[WORKER], raise_on_error=True, timeout=PATIENCE)
    assert await on_unit(ops_test, "sha256sum /opt/concourse/bin/runc") == before
    assert await on_unit(ops_test, "stat -c %F /opt/concourse/bin/runc") == "regular file"
