"""A whole deployment, held to docs/reference/files.md; and no secret of it lies about."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.chaos import listing
from tests.chaos.frame import Chaos
from tests.chaos.moments import ELSEWHERE, MOMENTS, SECOND_MACHINE
from tests.chaos.whole import COMMANDS, Deployment, deployed, watch

FILES = (
    "Who may read what: every file, socket and port of a whole deployment is in the table"
    " (docs/reference/files.md) with its owner and mode, and every row of it is there"
)
SECRETS = (
    "No secret of a whole deployment is in a log, a status, a command line, a databag or a file"
    " that others can read"
)
PROBE = "/run/concourse-ci-machine-probe-…"
# Rows that such a deployment doesn't have at this moment, and when there is one.
SOMETIMES = {
    "/usr/share/keyrings/concourse-ci-machine-nvidia.gpg": "somebody else's key in the usual place",
    "/etc/apt/preferences.d/concourse-ci-machine-nvidia-driver": "in LXD containers",
    PROBE: "during a self-test",
    "/var/lib/concourse-ci-machine/attempts.json": "after a failure",
    "/var/lib/concourse-ci-machine/downloads": "during a download",
    "/var/lib/concourse-ci-machine/drained": "while drained",
    "/var/lib/concourse-ci-machine/restart": "after restart-services",
    "/var/lib/concourse-ci-machine/turns.json": "while several workers take turns",
    "/var/lib/concourse-ci-machine/departed-workers.json": "after a worker left",
    "/var/lib/concourse-ci-machine/web-signalled": "after a certificate or a key came anew",
    "/var/lib/concourse-ci-machine/gpu/offer-pending.json": "between two looks at the GPUs",
    "/var/lib/concourse-ci-machine/kept": "where something had to make way",
}
# useradd's, systemd's and the rehearsal's own; the toolkit's package makes the last by a script.
THEIRS = re.compile(
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|/run/systemd/.*|/run/rehearsal\b.*"
    r"|/run/chaos-.*|/run/juju-agent.sock|/etc/nvidia-container-runtime"
    r"|(/var)?/tmp/systemd-private-[^/]+/tmp"
)
OTHERS = ("nobody", "concourse-web")
# What the web's own user is meant to read.
WEBS = re.compile(r"/etc/concourse/web/[^/]+")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deployed() as found:
        yield found


def test_every_file_is_in_the_table_and_every_row_is_there(
    chaos: Chaos, deployment: Deployment
) -> None:
    rows = listing.rows()
    assert len(rows) > 60
    made = [path for path in deployment.made() if not THEIRS.fullmatch(path)]
    with chaos.case(FILES, "nothing unlisted"):
        assert [path for path in made if not listing.is_listed(path, rows)] == []
    # A link of the package's own lies where the charm diverts one; both folders are the tree's.
    known = [*made, "/usr/bin/nvidia-container-runtime", "/run/containerd/containerd.sock"]
    there = {row.path: path for path in known if (row := listing.row_of(path, rows))}
    with chaos.case(FILES, "nothing missing"):
        assert rows.keys() - there.keys() == SOMETIMES.keys()
    with chaos.case(FILES, "owners and modes"):
        real = {path: owner_and_mode(deployment, path) for path in sorted(made)}
        wrong = {
            path: said
            for path, said in real.items()
            if (row := listing.row_of(path, rows))
            and row.mode
            and said != f"{row.owner} {row.mode}"
        }
        assert wrong == {}
    with chaos.case(FILES, "nobody else writes"):
        open_to_all = [path for path, said in real.items() if re.search(r" \d+[2367]$", said)]
        assert open_to_all == []
    chaos.tried(FILES, len(made) + len(there), 0)


def owner_and_mode(deployment: Deployment, path: str) -> str:
    """Return "user:group 0640" or "user:group link"."""
    owner, mode, kind = deployment.machine.shell(f"stat -c '%U:%G %04a %F' '{path}'").split(" ", 2)
    return f"{owner} {'link' if kind.startswith('symbolic') else mode}"


def test_no_other_port_is_open_and_no_socket_is_anybodys(
    chaos: Chaos, deployment: Deployment
) -> None:
    told = listing.ports()
    with chaos.case(FILES, "ports"):
        lines = deployment.machine.shell("ss -Hltnp").splitlines()
        listening = {line.split()[3] for line in lines if "concourse" in line}
        assert listening == {"0.0.0.0:8080", "0.0.0.0:8081", "0.0.0.0:2222", "127.0.0.1:8888"}
        settings = deployment.machine.read("/etc/concourse/web.env")
        set_ports = set(re.findall(r"_PORT=\"?(\d+)", settings)) - {"5432"}
        assert set_ports == {"8080", "8081", "2222", "9391"}
        assert set_ports | {"8888"} <= told
        assert deployment.unit.model.ports == {"8080/tcp", "2222/tcp", "9391/tcp"}
    with chaos.case(FILES, "sockets"):
        lines = deployment.machine.shell("ss -Hlxp").splitlines()
        sockets = {line.split()[4] for line in lines if re.search("concourse|containerd", line)}
        assert "/run/containerd/containerd.sock" in sockets
        for path in sockets:
            assert path.startswith("/run/containerd/")
            assert owner_and_mode(deployment, path)[-1] == "0", path


def test_no_secret_is_told(chaos: Chaos, deployment: Deployment) -> None:
    for name in ("gpu-status", "check-status"):
        deployment.unit.action(name)
    hold_what_is_told(chaos, deployment)


def hold_what_is_told(chaos: Chaos, deployment: Deployment) -> None:
    """Look for every secret in what the unit, Juju, the journal and the machine tell."""
    unit, machine = deployment.unit, deployment.machine
    properties = "systemctl show concourse-web concourse-worker"
    argv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c"]
    places = {
        "juju-log": "\n".join(line for run in unit.runs for line in run.log),
        "statuses": "\n".join(
            [*unit.model.status, *(s for run in unit.runs for s in run.statuses)]
        ),
        "output": repr([(run.output, run.results, run.failure) for run in unit.runs]),
        "databags": repr([link.bags for link in deployment.stage.controller.links]),
        "Juju's memory": repr([unit.model.state, unit.model.app_status, unit.model.version, "-"]),
        "journal": machine.shell("journalctl --no-pager --quiet --all --output=verbose"),
        "command lines of hooks": machine.read(COMMANDS),
        "processes": machine.shell("ps -ewwo args"),
        "units": machine.shell("systemctl cat 'concourse-*'"),
        "systemd's answers": machine.run([*argv, properties], timeout=20).stdout,
    }
    for place, text in places.items():
        with chaos.case(SECRETS, place):
            assert text, place
            assert found_in(text, deployment) == []


def test_no_secret_can_be_read_by_others(chaos: Chaos, deployment: Deployment) -> None:
    wanted = {"web.env", "worker.env", "keys/worker_key", "web/tls.pem", "web/tsa_host_key"}
    hold_what_can_be_read(chaos, deployment, {f"/etc/concourse/{name}" for name in wanted})


def hold_what_can_be_read(chaos: Chaos, deployment: Deployment, wanted: set[str]) -> None:
    """Look for every secret in what other users can read of files and processes.

    Args:
        chaos: what counts the cases.
        deployment: whose secrets.
        wanted: files that hold them, which the search has to find.
    """
    holding = files_with_secrets(deployment)
    with chaos.case(SECRETS, "the search finds what is there"):
        assert wanted <= set(holding)
    for user in OTHERS:
        with chaos.case(SECRETS, f"files that {user} can read"):
            script = 'for path; do test ! -r "$path" || echo "$path"; done'
            open_to = as_user(deployment, user, script, *holding).splitlines()
            assert [path for path in open_to if user == "nobody" or not WEBS.fullmatch(path)] == []
        with chaos.case(SECRETS, f"processes that {user} can look into"):
            script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'"
            seen = found_in(as_user(deployment, user, script), deployment)
            allowed = () if user == "nobody" else ("web's own",)
            assert [name for name in seen if kind_of(name) not in allowed] == []
            assert bool(seen) == bool(allowed), "the web's user sees its own environment"


def kind_of(name: str) -> str:
    """Return whose a secret is."""
    return "the worker's" if name in ("worker-env", "worker_key") else "web's own"


def found_in(text: str, deployment: Deployment) -> list[str]:
    """Return the names of the secrets that a text holds a line of."""
    secrets = deployment.secrets.items()
    return [name for name, lines in secrets if any(line in text for line in lines)]


def as_user(deployment: Deployment, user: str, script: str, *arguments: str) -> str:
    group = "nogroup" if user == "nobody" else user
    argv = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "sh", "-c", script]
    return deployment.machine.run([*argv, "sh", *arguments], timeout=30, check=False).stdout


def files_with_secrets(deployment: Deployment) -> list[str]:
    """Return every file of the machine, in memory too, that holds a line of a secret."""
    lines = "".join(f"{line}\n" for lines in deployment.secrets.values() for line in lines)
    grep = ["grep", "-rlaF", "--devices=skip", "--exclude-dir=outside", "-f", "-"]
    upper = deployment.machine.disk / "upper"
    on_disk = subprocess.run(
        [*grep, str(upper)], input=lines, capture_output=True, text=True, timeout=120, check=False
    ).stdout.splitlines()
    argv = [*grep, "/run", "/tmp", "/dev/shm"]
    in_memory = deployment.machine.run(argv, timeout=60, stdin=lines, check=False).stdout
    return [path.removeprefix(str(upper)) for path in on_disk] + in_memory.splitlines()


def test_what_is_there_while_a_probe_runs(chaos: Chaos, deployment: Deployment) -> None:
    row = listing.rows()[PROBE]
    places = row.path.replace("…", "*")
    look = f'until set -- {places}; [ -e "$1" ]; do :; done; stat -c "%U:%G %04a" "$1"'
    argv = deployment.machine.command(["timeout", "60", "sh", "-c", look])
    with (
        chaos.case(FILES, row.path),
        subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watching,
    ):
        deployment.unit.action("verify-gpu")
        assert watching.communicate(timeout=70)[0].strip() == f"{row.owner} {row.mode}"


def test_what_is_there_at_times(chaos: Chaos, deployment: Deployment) -> None:
    rows = listing.rows()
    assert {*MOMENTS, PROBE} == SOMETIMES.keys()
    for path, happens in MOMENTS.items():
        with chaos.case(FILES, path):
            happens(deployment)
            there = replace(deployment, name=ELSEWHERE.get(path, deployment.name))
            assert owner_and_mode(there, path) == f"{rows[path].owner} {rows[path].mode}"


def test_a_legacy_provider_alone_tells_its_password(chaos: Chaos, deployment: Deployment) -> None:
    stage = deployment.stage
    stage.deploy("old", SECOND_MACHINE, deployment_mode="web")
    watch(stage.units["old/0"])
    link = stage.relate("old:postgresql", "postgresql:db")
    stage.settle()
    assert stage.status("old/0") == "active  Web ready; no worker yet"
    published = link.bags["postgresql/0"].pop("master")
    password = re.search(r"password=(\S+)", published)
    assert password is not None
    old = replace(deployment, name="old/0", secrets={"password": (password[1],)})
    hold_what_is_told(chaos, old)
    hold_what_can_be_read(chaos, old, {"/etc/concourse/web.env"})
