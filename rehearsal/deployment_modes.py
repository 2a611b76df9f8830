"""The other shapes of a deployment: everything on one unit, and units that choose their roles."""

from __future__ import annotations

from .deployment_parts import left_on
from .deployment_webs import primary_moved
from .juju import Run
from .model_stage import Stage, wait_for

ALL, FIRST, SECOND = "one/0", "ci/0", "ci/1"
OLDER = "8.2.5"


def everything_on_one(stage: Stage) -> None:
    """Deploy with deployment-mode=all, and remove it."""
    stage.screen.part("juju deploy … one --config deployment-mode=all")
    stage.deploy("one", "cpu-0", deployment_mode="all")
    stage.relate("one:database", "postgresql:database")
    stage.settle()
    stage.expect(ALL, "active  Web ready, Worker ready")
    vain = [run.name for run in stage.units[ALL].runs if _waited_in_vain(run)]
    stage.screen.check(not vain, "no hook waited in vain", ", ".join(vain))
    primary_moved(stage, ALL)
    stage.expect(ALL, "active  Web ready, Worker ready")
    mode_changed(stage)
    stage.screen.part("juju remove-application one")
    stage.controller.remove_unit(ALL)
    stage.settle()
    left_on(stage, ALL)


def _waited_in_vain(run: Run) -> bool:
    """Return whether a hook started both services and gave up on the worker."""
    said = " ".join(run.statuses)
    both = "Starting the Concourse web" in said and "Starting the Concourse worker" in said
    return both and "Worker ready" not in run.statuses[-1]


def mode_changed(stage: Stage) -> None:
    """Change the mode: what isn't wanted any more drains, what runs on is left alone."""
    stage.screen.part("juju config one deployment-mode=web, and all again")
    web = stage.process(ALL, "concourse-web")
    _switch(stage, "web")
    stage.screen.check(_ends(stage, ALL), "the worker retired")
    stage.expect(ALL, "active  Web ready; no worker yet")
    _switch(stage, "all")
    stage.expect(ALL, "active  Web ready, Worker ready")
    stage.screen.check(stage.process(ALL, "concourse-web") == web, "the web was not restarted")


def _switch(stage: Stage, mode: str) -> None:
    stage.configure("one", deployment_mode=mode)
    stage.send(ALL, "config-changed")


def _ends(stage: Stage, unit: str) -> bool:
    """Wait for a unit's worker to end, and return whether it does."""
    worker, machine = "systemctl is-active concourse-worker", stage.units[unit].machine
    return wait_for(lambda: machine.shell(worker, check=False).strip() != "active", machine)


def on_a_newer_schema(stage: Stage) -> None:
    """Deploy an older release anew on the database that the one before has left."""
    stage.screen.part(f"juju deploy … one --config concourse-version={OLDER}, on its old database")
    stage.controller.forget("one")
    stage.sites["cpu-0"].supplies.offer_release(OLDER)
    stage.deploy("one", "cpu-0", deployment_mode="all", concourse_version=OLDER)
    stage.relate("one:database", "postgresql:database")
    stage.settle()
    newer = f"the database was migrated by a release newer than Concourse {OLDER}"
    remedy = "set concourse-version to that release, or relate another database"
    stage.expect(ALL, f"blocked  {newer}: {remedy}")
    runs = stage.units[ALL].machine.shell("systemctl is-active concourse-web", check=False).strip()
    stage.screen.check(runs != "active", "no web of it was started", runs)
    stage.screen.part(f"juju config one concourse-version={stage.choice.version}")
    stage.configure("one", concourse_version=stage.choice.version)
    stage.send(ALL, "config-changed")
    stage.expect(ALL, "active  Web ready, Worker ready")
    stage.controller.remove_unit(ALL)
    stage.settle()


def roles_chosen(stage: Stage) -> None:
    """Deploy two units with deployment-mode=auto; a change of leader moves nothing."""
    stage.screen.part("juju deploy … ci -n 2 --config deployment-mode=auto")
    stage.deploy("ci", "web-0", "gpu-0", deployment_mode="auto", enable_gpu=True)
    stage.relate("ci:database", "postgresql:database")
    stage.settle()
    ready = f"active  {stage.choice.ready}"
    stage.expect(SECOND, ready)
    stage.expect(FIRST, "active  Web ready")  # its workers have no tags
    stage.screen.part("ci/1 becomes the leader")
    before = _processes(stage)
    stage.controller.lead("ci", SECOND)
    stage.settle()
    stage.screen.check(_processes(stage) == before, "nothing moved, nothing was restarted")
    stage.expect(SECOND, ready)


def web_removed(stage: Stage) -> None:
    """Remove the unit that runs the web: another one takes over, with the same password."""
    stage.screen.part("juju remove-unit ci/0")
    before = stage.action(FIRST, "get-admin-password").results["password"]
    stage.controller.remove_unit(FIRST)
    stage.settle()
    stage.expect(SECOND, "active  Web ready; no worker yet")
    after = stage.action(SECOND, "get-admin-password").results.get("password")
    stage.screen.check(after == before, "the admin's password is the same")
    stage.screen.check(_ends(stage, SECOND), "its worker retired")
    left_on(stage, FIRST)


def _processes(stage: Stage) -> tuple[str, str]:
    web = stage.process(FIRST, "concourse-web")
    return web, stage.process(SECOND, "concourse-worker")
