"""The parts of the play, in their order."""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import footprint
from .containers import RefusedError, devices, running
from .machine import MachineError
from .stage import Stage
from .standins import gpu, real

# What no package lists but its own script makes (NVIDIA's toolkit: a link to the hook, and
# two units that are enabled), and what containerd makes for itself where its configuration
# leaves the place of its plugins open.
_MADE = re.compile(
    r"/etc/nvidia-container-runtime(/config\.toml)?|/usr/bin/nvidia-container-toolkit"
    r"|/etc/systemd/system/multi-user\.target\.wants/nvidia-cdi-refresh\.(path|service)"
    r"|/opt/containerd(/bin|/lib)?"
)
# What belongs to the worker, GPU or not; it goes with the unit.
_WORKER = re.compile(
    r"/opt/concourse(-releases)?(/.*)?|/etc/concourse(/keys(/.*)?|/worker\.env|/gpu)?"
    r"|/etc/systemd/system/(multi-user\.target\.wants/)?concourse-worker\.service"
    r"|/var/lib/concourse(-ci-machine)?(/.*)?"
)


def deploy(stage: Stage) -> None:
    """Deploy the charm with enable-gpu=true and relate it to a web."""
    stage.screen.part("Deployed with enable-gpu=true, then related to a web")
    for name in ("install", "leader-elected", "config-changed", "start"):
        stage.hook(name)
    relation = stage.world.relation(stage.choice.version)
    stage.unit.model.relations.append(relation)
    stage.hook(f"{relation.name}-relation-created", relation)
    relation.remote_units.append("web/0")
    stage.hook(f"{relation.name}-relation-joined", relation, "web/0")
    stage.hook(f"{relation.name}-relation-changed", relation, "web/0")
    stage.hook("update-status")


def status(stage: Stage) -> None:
    """Show what `juju status` shows and check that it is what this machine deserves."""
    stage.screen.part("juju status")
    word, message = stage.status
    model = stage.unit.model
    app = ("App", "Version", "Status", "Scale", "Charm", "Message")
    unit = ("Unit", "Workload", "Agent", "Machine", "Message")
    charm = "concourse-ci-machine"
    stage.screen.plain(_table(app, (model.app, model.version, word, "1", charm, message)))
    stage.screen.plain("\n" + _table(unit, (model.unit, word, "idle", "0", message)))
    if stage.choice.trouble:
        named = all(part in message for part in stage.choice.trouble)
        wanted = " and ".join(f'"{part}"' for part in stage.choice.trouble)
        stage.screen.check(
            word == "blocked" and named, f"blocked, and the status names {wanted}", message
        )
        return
    _is_ready(stage)


def _is_ready(stage: Stage) -> None:
    ready = stage.choice.ready
    shown = "  ".join(stage.status)
    stage.summary.append(f"{stage.unit.model.unit}  {shown}")
    if stage.choice.concourse:
        # A real worker speaks SSH, which the stand-in of a web doesn't.
        stage.screen.check(
            "not registered" in shown, "the real worker runs, and seeks a web", shown
        )
        return
    stage.screen.check(stage.status == ("active", ready), f"active, {ready}", shown)
    tags = set(stage.world.web.workers.get(stage.worker, ()))
    wanted = {"gpu", "gpu-type=nvidia", f"gpu-count={stage.choice.gpus}"}
    stage.screen.check(
        tags == wanted, f"the web has it with the tags {_words(wanted)}", _words(tags)
    )


def _table(head: tuple[str, ...], row: tuple[str, ...]) -> str:
    widths = [max(len(one), len(two)) for one, two in zip(head, row, strict=True)]
    lines = []
    for cells in (head, row):
        fitted = [f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join(fitted).rstrip())
    return "\n".join(lines)


def cpu_only(stage: Stage) -> None:
    """Check that a worker without a usable GPU serves CPU work."""
    stage.screen.part("Meanwhile, CPU work")
    if not stage.choice.concourse:
        tags = stage.world.web.workers.get(stage.worker)
        stage.screen.check(tags == (), "the web has it as a worker without tags", str(tags))
    _sees(stage, "a task", (), task=True)
    _sees(stage, "a check", (), task=False)


def mend(stage: Stage) -> None:
    """Do what the status asked for, and see it end at ready by itself."""
    if not stage.choice.passed:
        stage.screen.part("The GPU is passed through")
    elif stage.choice.mismatch and stage.choice.lxd:
        stage.screen.part("The packages that the status names are installed")
        before = stage.look()
        real.install_libraries(stage.machine, stage.choice.hardware.driver)
        stage.operators.update(footprint.changes(before, stage.look()))
    elif stage.choice.mismatch:
        stage.screen.part("The machine is rebooted, with the driver that fits")
    else:
        stage.screen.part("The driver is installed, and the machine rebooted")
    mended = stage.choice.mended
    if stage.choice.mismatch and not stage.choice.lxd:
        mended = gpu.Hardware(stage.choice.gpus, stage.choice.libraries)
    gpu.plug(stage.machine, mended)
    for _ in range(3):  # the charm believes two looks that agree
        stage.hook("update-status")
        if stage.status == ("active", stage.choice.ready):
            break
    _is_ready(stage)


def checklist(stage: Stage) -> None:
    """Run verify-gpu and gpu-status and show what they say."""
    stage.screen.part("juju run worker/0 verify-gpu")
    run = stage.action("verify-gpu")
    lines = run.results.get("checklist", "").splitlines()
    stage.screen.plain("\n".join(lines))
    failed = [line for line in lines if line.startswith("fail")]
    passed = any(line.startswith("pass") for line in lines)
    if stage.choice.concourse:  # without a web the first line can't pass
        failed = [line for line in failed if "status shows" not in line]
    counts = run.results.get("summary", "no checklist")
    stage.summary.append(f"verify-gpu  {counts}")
    stage.screen.check(passed and not failed, counts, _words(failed))


def containers(stage: Stage) -> None:
    """Create containers through the whole chain and see which devices they get."""
    stage.screen.part("Containers, by the worker's containerd, as Concourse makes them")
    count = stage.choice.gpus
    every = tuple(f"nvidia{index}" for index in range(count))
    last = str(count - 1)
    _sees(stage, "a task", every, task=True)
    _sees(stage, f"a task that asks for GPU {last}", (f"nvidia{last}",), task=True, asks=last)
    _sees(stage, "a task that asks for none", (), task=True, asks="none")
    _sees(stage, "a check, its image asking for all", (), task=False, asks="all")
    try:
        asked = {"NVIDIA_VISIBLE_DEVICES": "9"}
        with running(stage.machine, "refused", task=True, env=asked):
            stage.screen.check(False, "a task that asks for GPU 9 is refused", "it was created")
    except RefusedError as error:
        told = "is not available" in str(error)
        stage.screen.check(told, "a task that asks for GPU 9 is refused; its log says", str(error))
        stage.screen.plain(re.sub(r"^.*create failed: |: unknown$", "", str(error)))


def _sees(stage: Stage, who: str, wanted: tuple[str, ...], *, task: bool, asks: str = "") -> None:
    """Check which GPUs a container sees, and print every node."""
    env = {"NVIDIA_VISIBLE_DEVICES": asks} if asks else {}
    handle = re.sub(r"\W+", "-", who)
    try:
        with running(stage.machine, handle, task=task, env=env):
            nodes = devices(stage.machine, handle)
    except (RefusedError, MachineError) as error:
        stage.screen.check(False, f"{who} is created", str(error))
        return
    gpus = tuple(name for name in nodes if re.fullmatch(r"nvidia\d+", name))
    right = gpus == wanted and bool(nodes) == bool(wanted)
    what = _words(f"/dev/{name}" for name in nodes) if nodes else "no GPU"
    stage.screen.check(right, f"{who} sees {what}", f"not {_words(wanted) or 'none'}")


def exclusive(stage: Stage) -> None:
    """Have two tasks hold all GPUs, a third refused, and one given what a task has left."""
    stage.screen.part("juju config worker gpu-sharing=exclusive gpu-lease-timeout=2")
    model, machine, check = stage.unit.model, stage.machine, stage.screen.check
    model.config |= {"gpu-sharing": "exclusive", "gpu-lease-timeout": 2}
    stage.hook("config-changed")
    _settle(stage, ("active", stage.choice.ready))
    most = {"CONCOURSE_GPU_COUNT": str(stage.choice.gpus - 1)}
    try:
        with (
            running(machine, "0c0ffee1-one", task=True, env=most),
            running(machine, "0c0ffee2-two", task=True),
        ):
            try:
                with running(machine, "0c0ffee3-three", task=True):
                    check(False, "a third task is refused", "it was created")
            except RefusedError as error:
                told = "0c0ffee1-one" in str(error) and "0c0ffee2-two" in str(error)
                check(told, "a third task waits 2 s and is refused; its log says", str(error))
                stage.screen.plain(re.sub(r"^.*create failed: |: unknown$", "", str(error)))
            first, second = devices(machine, "0c0ffee1-one"), devices(machine, "0c0ffee2-two")
            both = [name for name in (*first, *second) if re.fullmatch(r"nvidia\d+", name)]
            check(len(set(both)) == stage.choice.gpus, f"the two see {_words(both)}", "shared")
            with running(machine, "0c0ffee4-four", task=True):  # the others' processes are over
                again = devices(machine, "0c0ffee4-four")
            check("nvidia0" in again, "a fourth gets the GPU of one whose process is over")
    except (RefusedError, MachineError) as error:
        check(False, "two tasks get GPUs of their own", str(error))
    model.config |= {"gpu-sharing": "shared", "gpu-lease-timeout": 60}
    stage.hook("config-changed")
    _settle(stage, ("active", stage.choice.ready))


def unchanged(stage: Stage) -> None:
    """Check that a hook on a machine that agrees changes nothing."""
    stage.screen.part("A hook on the unchanged machine")
    before, process, log = stage.look(), _main_pid(stage), _apt_log(stage)
    stage.hook("config-changed")
    paths = footprint.changes(before, stage.look())
    different = [path for path in paths if not path.startswith("/var/lib/concourse/worker/")]
    stage.screen.check(not different, "it rewrote no file", _words(different))
    same = _apt_log(stage) == log
    stage.screen.check(same, "it ran no apt")
    stage.screen.check(_main_pid(stage) == process, "it restarted nothing")


def _apt_log(stage: Stage) -> str:
    return stage.machine.shell("cat /var/log/dpkg.log; ls -l --full-time /var/lib/apt/lists")


def _main_pid(stage: Stage) -> str:
    return stage.machine.shell("systemctl show -p MainPID --value concourse-worker").strip()


def switch_off(stage: Stage) -> None:
    """Turn the GPU off and compare the machine's files with before."""
    stage.screen.part("juju config worker enable-gpu=false")
    stage.unit.model.config["enable-gpu"] = False
    stage.hook("config-changed")
    _settle(stage, ("active", "Worker ready"))
    _packages(stage)
    left = [path for path in stage.changed() if not _MADE.fullmatch(path)]
    other = [path for path in left if not _WORKER.fullmatch(path)]
    stage.screen.check(
        not other, "all other files are as before, but for the worker's", _words(other)
    )
    tree = f"/opt/concourse-releases/{stage.choice.version}/bin"
    names = stage.machine.shell(f"ls -A {tree}").split()
    extra = [name for name in names if "real" in name or "wrapper" in name]
    stage.screen.check(not extra, "Concourse's runc is its own again", _words(extra))
    _sees(stage, "a task", (), task=True)


def _packages(stage: Stage) -> None:
    new = sorted(stage.installed() - stage.packages)
    stage.screen.line(f"stays   {len(new)} packages that apt installed:")
    stage.screen.plain("\n".join(new))
    text = stage.machine.shell("cat /etc/nvidia-container-runtime/config.toml")
    own = "/opt/concourse" not in text
    stage.screen.check(own, "the toolkit's config.toml is as its package made it", text)


def switch_on(stage: Stage) -> None:
    """Turn the GPU on again."""
    stage.screen.part("juju config worker enable-gpu=true")
    stage.unit.model.config["enable-gpu"] = True
    stage.hook("config-changed")
    _settle(stage, ("active", stage.choice.ready))


def _settle(stage: Stage, wanted: tuple[str, str]) -> None:
    if stage.choice.concourse:
        return
    if stage.status != wanted:
        stage.hook("update-status")
    stage.screen.check(stage.status == wanted, "  ".join(wanted), "  ".join(stage.status))


def remove(stage: Stage) -> None:
    """Remove the unit and compare the machine's files with before."""
    stage.screen.part("juju remove-application worker")
    stage.hook("stop")
    stage.hook("remove")
    if not stage.choice.concourse:
        gone = stage.worker not in stage.world.web.workers
        stage.screen.check(gone, "the web has the worker no more")
        orders = _words(stage.world.web.orders[-1:])
        stage.screen.check(orders == "retire", "it retired", orders)
    left = [path for path in stage.changed() if not _MADE.fullmatch(path)]
    stage.screen.check(not left, "all files are as before, but for the packages'", _words(left))


def _words(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
