"""The play of the whole deployment: PostgreSQL, a web, workers, each on a machine of its own."""

from __future__ import annotations

from contextlib import ExitStack

from . import builds
from . import deployment_https as https
from . import deployment_modes as modes
from . import deployment_parts as parts
from . import deployment_turns as turns
from . import deployment_webs as webs
from .choice import Choice
from .model_stage import Stage
from .play import unpacked_charm
from .screen import Screen
from .standins.gpu import Hardware


def play(choice: Choice, screen: Screen) -> int:
    """Play it all; return the exit status, 0 only if all is as it should be.

    Raises:
        MachineError: there is no machine to play on, or a hook failed.
    """
    screen.title("Concourse as a whole, rehearsed on throw-away copies of this machine")
    screen.part("The machines")
    with ExitStack() as resources:
        stage = Stage(choice, screen, resources)
        _furnish(stage)
        parts.deploy(stage)
        parts.relate(stage)
        parts.log_in(stage)
        parts.task(stage)
        if choice.concourse:
            builds.run(stage)
        parts.unchanged(stage)
        parts.rotate(stage)
        parts.encrypt(stage)
        turns.take_turns(stage)
        https.switched_on(stage)
        parts.statuses(stage)
        parts.remove_worker(stage)
        parts.remove(stage)
        if choice.concourse:
            builds.check_rules(stage)
        webs.several_webs(stage)
        webs.both_relations(stage)
        webs.primary_moved(stage, webs.FIRST, webs.SECOND)
        webs.rebooted(stage)
        webs.removed(stage)
        modes.everything_on_one(stage)
        if not choice.concourse:  # one file holds one release
            modes.on_a_newer_schema(stage)
        modes.roles_chosen(stage)
        modes.web_removed(stage)
    return _end(stage)


def _furnish(stage: Stage) -> None:
    machine = stage.boot("postgresql-0")
    stage.charm = unpacked_charm(stage.choice, machine, stage.screen)
    stage.serve_database(machine)
    without = Hardware().without_gpus()
    stage.prepare("gpu-0", stage.choice.hardware)
    stage.prepare("web-0", without)
    stage.prepare("cpu-0", without)
    things = ["the GPU", "Juju", "PostgreSQL's charm", "NVIDIA's packages"]
    things += [] if stage.choice.concourse else ["Concourse's own program"]
    stage.screen.plain(f"stand-ins: {', '.join(things)}; all else is real")


def _end(stage: Stage) -> int:
    screen = stage.screen
    screen.part("The end")
    for fact in stage.summary:
        screen.line(fact)
    if screen.wrong:
        screen.line(f"{len(screen.wrong)} not as it should be:")
        screen.plain("\n".join(screen.wrong))
        return 1
    screen.line("All as it should be; the machines are gone")
    return 0
