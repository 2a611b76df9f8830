"""Several webs of one application, PostgreSQL's older relation, a primary that moves, a reboot."""

from __future__ import annotations

from .deployment_parts import left_on
from .links import Link
from .model_stage import Stage, wait_for

FIRST, SECOND, NODE = "ha/0", "ha/1", "node/0"
_WEB, _WORKER = "concourse-web", "concourse-worker"
# What a power cut leaves of a service: nothing that ran, nothing in /run.
_CUT = """
systemctl kill --signal=KILL {service}
pkill -KILL containerd-shim || true
systemctl stop {service}
rm -rf /run/containerd
systemctl start multi-user.target
"""


def several_webs(stage: Stage) -> None:
    """Deploy two webs of one application on PostgreSQL's older relation, and a worker."""
    stage.screen.part("juju deploy … ha -n 2; juju relate ha:postgresql postgresql:db")
    stage.deploy("ha", "web-0", "cpu-0", deployment_mode="web")
    stage.deploy("node", "gpu-0", deployment_mode="worker")
    stage.relate("ha:postgresql", "postgresql:db")
    stage.relate("ha:web-tsa", "node:worker-tsa")
    stage.settle()
    for unit in (NODE, FIRST, SECOND):
        stage.expect(unit, f"active  {'Worker' if unit == NODE else 'Web'} ready")
    addresses = {unit: stage.units[unit].model.address for unit in (FIRST, SECOND)}
    peers = {unit: stage.variable(unit, _WEB, "CONCOURSE_PEER_ADDRESS") for unit in addresses}
    stage.screen.check(peers == addresses, "each web names its own address", str(peers))
    hosts = stage.variable(NODE, _WORKER, "CONCOURSE_TSA_HOST")
    wanted = ",".join(sorted(f"{address}:2222" for address in addresses.values()))
    stage.screen.check(hosts == wanted, "the worker knows both", hosts)
    said = [stage.action(unit, "get-admin-password").results["password"] for unit in addresses]
    stage.screen.check(said[0] == said[1], "both have the same admin's password")
    keys = "cat /etc/concourse/web/session_signing_key /etc/concourse/web/tsa_host_key"
    read = {stage.units[unit].machine.shell(f"{keys} | sha256sum") for unit in addresses}
    stage.screen.check(len(read) == 1, "both have the same keys")


def both_relations(stage: Stage) -> None:
    """Relate PostgreSQL twice: the status says what to do, and what runs goes on."""
    stage.screen.part("juju relate ha:database postgresql:database, beside the older one")
    before = _processes(stage)
    second: Link = stage.relate("ha:database", "postgresql:database")
    stage.settle()
    remedy = "juju remove-relation ha:database postgresql, or ha:postgresql postgresql"
    for unit in (FIRST, SECOND):
        stage.expect(unit, f"blocked  Related to two databases: {remedy}")
    stage.screen.part("juju remove-relation ha:database postgresql")
    second.dying = True
    stage.settle()
    stage.expect(FIRST, "active  Web ready")
    stage.screen.check(_processes(stage) == before, "nothing was restarted meanwhile")


def primary_moved(stage: Stage, *units: str) -> None:
    """Have PostgreSQL's primary be at another address, where the webs have to find it."""
    stage.screen.part("PostgreSQL's primary moves")
    address = stage.move_database()
    stage.settle()
    for unit in units:
        host = stage.variable(unit, _WEB, "CONCOURSE_POSTGRES_HOST")
        stage.screen.check(host == address, f"{unit} has followed it", host)


def rebooted(stage: Stage) -> None:
    """Cut the power of a web's and a worker's machine: systemd brings back what ran."""
    stage.screen.part("The machines of ha/0 and node/0 are rebooted")
    for unit, service in ((FIRST, _WEB), (NODE, _WORKER)):
        stage.units[unit].machine.shell(_CUT.format(service=service), timeout=60)
        stage.screen.check(_is_back(stage, unit, service), f"{service} is back before any hook")
    before = stage.process(FIRST, _WEB), stage.process(NODE, _WORKER)
    for unit in (FIRST, NODE):
        stage.send(unit, "start")
    same = before == (stage.process(FIRST, _WEB), stage.process(NODE, _WORKER))
    stage.screen.check(same, "the start hooks restarted nothing")
    stage.expect(NODE, "active  Worker ready")
    stage.expect(FIRST, "active  Web ready")


def _is_back(stage: Stage, unit: str, service: str) -> bool:
    machine = stage.units[unit].machine
    script = f"systemctl is-active {service}"
    return wait_for(lambda: machine.shell(script, check=False).strip() == "active", machine)


def removed(stage: Stage) -> None:
    """Remove it all; the machines are left without it."""
    stage.screen.part("juju remove-application node ha")
    for unit in (NODE, SECOND, FIRST):
        stage.controller.remove_unit(unit)
        stage.settle()
        left_on(stage, unit)


def _processes(stage: Stage) -> tuple[str, str]:
    return stage.process(FIRST, _WEB), stage.process(SECOND, _WEB)
