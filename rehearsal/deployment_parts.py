"""The parts of the deployment's play, in their order."""

from __future__ import annotations

import json
import re

from .containers import RefusedError, devices, running
from .machine import MachineError
from .model_stage import Stage, wait_for

WEB, WORKER, CPU = "web/0", "worker/0", "cpu/0"
_WEB_SERVICE, _WORKER_SERVICE = "concourse-web", "concourse-worker"
# What an operator's fly asks a web, from another machine than the web's.
_ASK = """
import json, sys
from concourse.api import Address, workers
said = json.load(sys.stdin)
found = workers(Address(8080, said["host"]), said["user"], said["password"])
print(json.dumps({one.name: [one.state, sorted(one.tags)] for one in found}))
"""


def deploy(stage: Stage) -> None:
    """Deploy a web, a worker with a GPU, and one without for all untagged steps."""
    stage.screen.part("Deployed: web, worker with enable-gpu=true, cpu; not related yet")
    stage.deploy("web", "web-0", deployment_mode="web")
    # A copy of a machine is an overlay, which can't hold the overlays of a real worker.
    driver = "naive" if stage.choice.concourse else "auto"
    stage.deploy("worker", "gpu-0", deployment_mode="worker", enable_gpu=True,
                 baggageclaim_driver=driver)  # fmt: skip
    stage.deploy("cpu", "cpu-0", deployment_mode="worker", baggageclaim_driver=driver)
    stage.settle()
    stage.expect(WEB, "blocked  No database: juju relate web:database postgresql:database")
    stage.expect(WORKER, "blocked  No web: juju relate WEB:web-tsa worker:worker-tsa")


def relate(stage: Stage) -> None:
    """Relate them all, first the GPU's worker alone."""
    stage.screen.part("juju relate web:database postgresql:database")
    stage.relate("web:database", "postgresql:database")
    stage.settle()
    stage.expect(WEB, "active  Web ready; no worker yet")
    stage.screen.part("juju relate web:web-tsa worker:worker-tsa")
    stage.relate("web:web-tsa", "worker:worker-tsa")
    stage.settle()
    stage.expect(WORKER, f"active  {stage.choice.ready}")
    tagged = "every worker has tags: untagged steps and checks have nowhere to run"
    stage.expect(WEB, f"active  Web ready; {tagged}")
    stage.screen.part("juju relate web:web-tsa cpu:worker-tsa")
    before = stage.process(WEB, _WEB_SERVICE)
    stage.relate("web:web-tsa", "cpu:worker-tsa")
    stage.settle()
    stage.expect(CPU, "active  Worker ready")
    stage.expect(WEB, "active  Web ready")
    same = stage.process(WEB, _WEB_SERVICE) == before
    stage.screen.check(same, "the web let it in without a restart")


def log_in(stage: Stage) -> None:
    """Ask for the admin's password and, with it, for the web's workers."""
    stage.screen.part("juju run web/0 get-admin-password; fly workers, from the worker's machine")
    run = stage.action(WEB, "get-admin-password")
    shown = {name: value for name, value in run.results.items() if name != "password"}
    stage.screen.plain("\n".join(f"{name}: {value}" for name, value in sorted(shown.items())))
    stage.screen.check(len(run.results.get("password", "")) >= 20, "a password is there")
    found = workers(stage)
    for name, (state, tags) in sorted(found.items()):
        stage.screen.plain(f"{name}  {state}  {', '.join(tags) or 'no tags'}")
    count = f"gpu-count={stage.choice.gpus}"
    wanted = {"worker-0": ("running", ["gpu", count, "gpu-type=nvidia"]), "cpu-0": ("running", [])}
    stage.screen.check(found == wanted, "the web has both, with their tags", json.dumps(found))


def workers(stage: Stage) -> dict[str, tuple[str, list[str]]]:
    """Return the web's workers: name -> state and tags; empty if it gives no answer."""
    said = stage.units[WEB].action("get-admin-password").results
    host = re.sub(r"^https?://|:\d+$", "", said["url"])
    entry = {"host": host, "user": said["username"], "password": said["password"]}
    lib = "/var/lib/juju/agents/unit-worker-0/charm/lib"
    argv = ["env", f"PYTHONPATH={lib}", "PYTHONDONTWRITEBYTECODE=1", "python3", "-c", _ASK]
    machine = stage.units[WORKER].machine
    done = machine.run(argv, timeout=30, stdin=json.dumps(entry), check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else {}
    return {name: (state, tags) for name, (state, tags) in found.items()}


def task(stage: Stage) -> None:
    """Run a task's container on the worker, and a check's."""
    stage.screen.part("Containers, by the worker's containerd, as Concourse makes them")
    machine = stage.units[WORKER].machine
    for who, is_task in (("a task", True), ("a check", False)):
        try:
            with running(machine, who.replace(" ", "-"), task=is_task):
                nodes = devices(machine, who.replace(" ", "-"))
        except (RefusedError, MachineError) as error:
            stage.screen.check(False, f"{who} is created", str(error))
            continue
        gpus = [name for name in nodes if re.fullmatch(r"nvidia\d+", name)]
        wanted = stage.choice.gpus if is_task else 0
        what = ", ".join(f"/dev/{name}" for name in nodes) or "no GPU"
        stage.screen.check(len(gpus) == wanted, f"{who} sees {what}")


def unchanged(stage: Stage) -> None:
    """Check that another round of hooks changes nothing."""
    stage.screen.part("update-status on an unchanged model")
    before = _processes(stage)
    stage.update(WEB, WORKER)
    stage.screen.check(_processes(stage) == before, "nothing was restarted")


def _processes(stage: Stage) -> tuple[str, str]:
    return stage.process(WEB, _WEB_SERVICE), stage.process(WORKER, _WORKER_SERVICE)


def rotate(stage: Stage) -> None:
    """Change the database's password behind the web's back, as PostgreSQL's charm does."""
    stage.screen.part("PostgreSQL's charm changes the web's password")
    before = stage.process(WEB, _WEB_SERVICE)
    old = stage.database.rotate("web")
    stage.settle()
    again = stage.process(WEB, _WEB_SERVICE) not in (before, "0")
    stage.screen.check(again, "the web was restarted once it was told")
    _workers_return(stage)
    stage.expect(WEB, "active  Web ready")
    _says_nothing(stage, old)


def encrypt(stage: Stage) -> None:
    """Have PostgreSQL take TLS only."""
    stage.screen.part("PostgreSQL takes TLS only")
    stage.database.encrypt()
    stage.settle()
    pid = stage.process(WEB, _WEB_SERVICE)
    script = f"tr '\\0' '\\n' </proc/{pid}/environ | grep ^CONCOURSE_POSTGRES_SSLMODE="
    mode = stage.units[WEB].machine.shell(script, check=False).strip().rpartition("=")[2]
    stage.screen.check(mode == "verify-ca", "the web verifies the server", mode)
    _workers_return(stage)
    stage.expect(WEB, "active  Web ready")


def _workers_return(stage: Stage) -> None:
    def back() -> bool:
        found = workers(stage)
        return [state for state, _ in found.values()] == ["running", "running"]

    there = wait_for(back, stage.units[WORKER].machine)
    stage.screen.check(there, "both workers are back by themselves", json.dumps(workers(stage)))


def _says_nothing(stage: Stage, password: str) -> None:
    """Check that a password is in no log, status or command line."""
    secrets = [one.content["password"] for one in stage.controller.secrets.values()
               if "password" in one.content]  # fmt: skip
    unit = stage.units[WEB]
    said = [*unit.model.status, *(line for run in unit.runs for line in run.log)]
    said += [run.output for run in unit.runs]
    said.append(unit.machine.shell("journalctl --no-pager --quiet; ps -eo args"))
    told = any(word in text for word in (password, *secrets) for text in said)
    stage.screen.check(not told, "no password is in a log, a status or the process list")


def statuses(stage: Stage) -> None:
    """Show what `juju status` shows."""
    stage.screen.part("juju status")
    stage.update(WEB, WORKER, CPU)
    rows = [("Unit", "Workload", "Address", "Message")]
    for name in (WEB, WORKER, CPU):
        model = stage.units[name].model
        rows.append((name, model.status[0], model.address, model.status[1]))
        stage.summary.append(f"{name}  {stage.status(name)}")
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        stage.screen.plain("  ".join(cells))
    stage.screen.check(stage.status(WEB) == "active  Web ready", "web/0 is ready")
    ready = f"active  {stage.choice.ready}"
    stage.screen.check(stage.status(WORKER) == ready, "worker/0 is ready")


def remove_worker(stage: Stage) -> None:
    """Remove a worker's unit: its key stays until it has retired."""
    stage.screen.part("juju remove-unit cpu/0")
    stage.controller.remove_unit(CPU)
    stage.settle()
    found = workers(stage)
    stage.screen.check("cpu-0" not in found, "the web has cpu-0 no more", json.dumps(found))
    stage.update(WEB)
    keys = "/etc/concourse/web/authorized_worker_keys"
    names = [line.split()[2] for line in stage.units[WEB].machine.read(keys).splitlines()
             if not line.startswith("#")]  # fmt: skip
    stage.screen.check(names == ["worker-0"], "its key went with it", ", ".join(names))


def remove(stage: Stage) -> None:
    """Remove the applications; the machines are left without them."""
    stage.screen.part("juju remove-application worker, web")
    stage.controller.remove_unit(WORKER)
    stage.settle()
    stage.screen.check("worker-0" not in workers(stage), "worker-0 retired")
    stage.controller.remove_unit(WEB)
    stage.settle()
    for name in (WEB, WORKER, CPU):
        left_on(stage, name)


def left_on(stage: Stage, unit: str) -> None:
    """Check that a removed unit has left nothing on its machine."""
    script = "ls -d /etc/concourse /opt/concourse* /var/lib/concourse* 2>/dev/null"
    script += "; getent passwd concourse-web"
    left = stage.units[unit].machine.shell(script, check=False)
    stage.screen.check(not left.strip(), f"{unit} left nothing", " ".join(left.split()))
