"""A whole deployment on one machine, held to docs/reference/files.md; and no secret lies about."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from rehearsal import footprint
from rehearsal.choice import Choice
from rehearsal.footprint import Footprint
from rehearsal.model_stage import Stage
from rehearsal.play import unpacked_charm
from rehearsal.screen import Screen
from rehearsal.standins.model import Secret
from tests.chaos.frame import SOURCE, Chaos

FILES = (
    "Who may read what: every file, socket and port of a whole deployment is in the table"
    " (docs/reference/files.md) with its owner and mode, and nothing else is there."
)
SECRETS = (
    "No secret of a whole deployment is in a log, a status, a command line, a databag or a file"
    " that others can read."
)
UNIT = "one/0"
READY = "active  Web ready, Worker ready (GPU: 1x NVIDIA)"
# Rows of the table that a healthy deployment outside a container doesn't have at this moment.
SOMETIMES = {
    "/usr/share/keyrings/concourse-ci-machine-nvidia.gpg": "somebody else's key in the usual place",
    "/etc/apt/preferences.d/concourse-ci-machine-nvidia-driver": "in containers",
    "/var/lib/concourse-ci-machine/attempts.json": "after a failure",
    "/var/lib/concourse-ci-machine/downloads": "during a download",
    "/var/lib/concourse-ci-machine/drained": "while drained",
    "/var/lib/concourse-ci-machine/restart": "after restart-services",
    "/var/lib/concourse-ci-machine/turns.json": "where workers take turns",
    "/var/lib/concourse-ci-machine/departed-workers.json": "after a worker left",
    "/var/lib/concourse-ci-machine/gpu/offer-pending.json": "between two looks",
    "/var/lib/concourse-ci-machine/kept": "where something had to make way",
    "/etc/concourse/web/tls.pem": "with a certificate for browsers",
}
# Whole folders that the table speaks of as one.
WHOLE = (
    "/opt/concourse-releases/VERSION",
    "/var/lib/concourse/worker",
    "/run/concourse-ci-machine",
)
# Whose content is Debian's or the machine's: useradd's and dpkg's own files.
THEIRS = re.compile(
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|/etc/\.pwd\.lock|/etc/systemd/system"
    r"(/multi-user\.target\.wants)?|/(etc|opt|usr|var|var/lib|usr/bin|usr/share)"
    r"|/usr/(local/bin|local|share/keyrings)|/etc/apt(/sources\.list\.d|/preferences\.d)?"
)


@dataclass(frozen=True)
class Row:
    """One row of the table: who owns a path, and its mode; "" for as it comes."""

    path: str
    owner: str
    mode: str


def table() -> dict[str, Row]:
    """Read the rows of files.md that begin with a path."""
    rows = {}
    page = (SOURCE / "docs/reference/files.md").read_text(encoding="utf-8")
    for path, said in re.findall(r"^\| (/[^ |]+)[^|]* \| ([^|]*) \|", page, re.MULTILINE):
        found = re.fullmatch(r"(?:(\S+:\S+) )?(0\d{3}|link)|(as found)|.*", said.strip())
        assert found
        rows[path] = Row(path, found[1] or "root:root", found[2] or "")
    return rows


@dataclass(frozen=True)
class Deployment:
    """Web and worker on one machine, with its GPU, its database beside it.

    Attributes:
        before: the machine's files before the first hook.
        owned: what the packages brought that were installed meanwhile.
        secrets: each secret that was used, by what it is.
    """

    stage: Stage
    before: Footprint
    owned: frozenset[str]
    secrets: dict[str, str]

    def shell(self, script: str) -> str:
        return self.stage.units[UNIT].machine.shell(script, timeout=60)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with ExitStack() as resources:
        stage = Stage(Choice(), Screen(StringIO()), resources)
        server = stage.boot("postgresql-0")
        stage.charm = unpacked_charm(stage.choice, server, stage.screen)
        stage.serve_database(server)
        site = stage.prepare("all-0", stage.choice.hardware)
        packages = "dpkg-query -W -f '${Package}\\n'"
        known = set(site.machine.shell(packages).split())
        before = footprint.look(site.machine.disk / "upper")
        user = Secret("", "application", {"github-client-secret": "ghs-0Nly-h3re-4711"},
                      holder="admin", granted={"one"})  # fmt: skip
        stage.controller.secrets["secret:c0ffee0000000000000a"] = user
        options = {"deployment_mode": "all", "enable_gpu": True, "enable_metrics": True,
                   "worker_env": "CONCOURSE_TRACING_HONEYCOMB_API_KEY=w0rker-env-s3cret",
                   "web_secret_env": "secret:c0ffee0000000000000a"}  # fmt: skip
        stage.deploy("one", "all-0", **options)
        stage.relate("one:database", "postgresql:database")
        stage.settle()
        stage.database.encrypt()
        stage.settle()
        for _ in range(4):
            if stage.status(UNIT).startswith(READY):
                break
            stage.update(UNIT)
        assert stage.status(UNIT).startswith(READY), stage.status(UNIT)
        new = sorted(set(site.machine.shell(packages).split()) - known)
        owned = site.machine.shell(f"dpkg -L {' '.join(new)}") if new else ""
        made = Deployment(stage, before, frozenset(owned.splitlines()), {})
        made.secrets.update(secrets_of(made))
        yield made


def secrets_of(deployment: Deployment) -> dict[str, str]:
    """Return what must not be seen: one telling line of each."""
    found = {"worker-env": "w0rker-env-s3cret"}
    for secret in deployment.stage.controller.secrets.values():
        for name, value in secret.content.items():
            if name in ("username", "tls", "tls-ca"):
                continue
            lines = value.splitlines()
            found[name] = lines[len(lines) // 2] if len(lines) > 2 else value
    private = deployment.shell("cat /etc/concourse/keys/worker_key").splitlines()
    found["worker_key"] = private[len(private) // 2]
    assert {"password", "uris", "admin-password", "session-signing-key"} <= set(found)
    assert all(len(value) > 10 for value in found.values())
    return found


def test_every_file_is_in_the_table_and_every_row_on_the_machine(
    chaos: Chaos, deployment: Deployment
) -> None:
    rows = table()
    assert len(rows) > 50
    machine = deployment.stage.units[UNIT].machine
    now = footprint.look(machine.disk / "upper")
    made = [path for path in footprint.changes(deployment.before, now) if path in now]
    ours = [path for path in footprint.beside(made, deployment.owned) if not THEIRS.fullmatch(path)]
    ours += deployment.shell("find /run/concourse-ci-machine").split()
    with chaos.case(FILES, "nothing unlisted"):
        assert [path for path in ours if not is_listed(path, rows)] == []
    with chaos.case(FILES, "nothing missing"):
        there = deployment.shell(
            f"for path in {' '.join(sorted(rows))}; do [ ! -L $path ] && [ ! -e $path ] "
            "|| echo $path; done"
        ).split()
        missing = set(rows) - set(there) - set(SOMETIMES)
        assert {path for path in missing if "VERSION" not in path} == set()
    with chaos.case(FILES, "owners and modes"):
        wrong = {path: said for path in there if (said := differs(deployment, rows[path]))}
        assert wrong == {}
    chaos.tried(FILES, len(ours) + len(there), 0)


def is_listed(path: str, rows: dict[str, Row]) -> bool:
    inside = path.replace("/opt/concourse-releases/8.3.0", "/opt/concourse-releases/VERSION")
    inside = re.sub(r"^/opt/concourse-releases/VERSION/bin", "/opt/concourse/bin", inside)
    if inside in rows or path in rows:
        return True
    plain = path.replace("/opt/concourse-releases/8.3.0", "/opt/concourse-releases/VERSION")
    return any(plain.startswith(f"{whole}/") for whole in WHOLE)


def differs(deployment: Deployment, row: Row) -> str:
    """Return a path's owner and mode where they aren't the row's; "" if they are."""
    owner, mode, kind = deployment.shell(f"stat -c '%U:%G %a %F' {row.path}").split(maxsplit=2)
    if row.mode == "link":
        return "" if kind.strip() == "symbolic link" and owner == row.owner else f"{owner} {kind}"
    if not row.mode:
        return ""
    same = owner == row.owner and int(mode, 8) == int(row.mode, 8)
    return "" if same else f"{owner} {mode}"


def test_no_other_port_or_socket_is_open(chaos: Chaos, deployment: Deployment) -> None:
    page = (SOURCE / "docs/reference/files.md").read_text(encoding="utf-8")
    with chaos.case(FILES, "ports"):
        listening = deployment.shell("ss -Hltnp | awk '{print $4, $6}'").splitlines()
        ours = [line.split()[0] for line in listening if re.search("concourse|python3", line)]
        outside = {line.rpartition(":")[2] for line in ours if not line.startswith("127.")}
        assert outside == {"8080", "2222", "9391"}
        assert all(port in page for port in outside)
        assert "127.0.0.1:8888" in ours
    with chaos.case(FILES, "sockets"):
        found = deployment.shell("ss -Hlxp | awk '/containerd/ {print $5}'").split()
        sockets = [path for path in found if path.startswith("/run/containerd/")]
        assert "/run/containerd/containerd.sock" in sockets
        for path in sockets:
            mode = int(deployment.shell(f"stat -c %a {path}"), 8)
            assert mode & stat.S_IRWXO == 0, path


def test_no_secret_is_seen_by_others(chaos: Chaos, deployment: Deployment) -> None:
    unit = deployment.stage.units[UNIT]
    hooks = [run for run in unit.runs if run.name != "get-admin-password"]
    places = {
        "juju-log": "\n".join(line for run in hooks for line in run.log),
        "statuses": "\n".join(
            [*(one for run in hooks for one in run.statuses), *unit.model.status]
        ),
        "output": "\n".join(run.output for run in hooks),
        "databags": repr([link.bags for link in deployment.stage.controller.links]),
        "journal": deployment.shell("journalctl --no-pager --quiet --output=cat"),
        "command lines": deployment.shell("ps -eo args"),
        "units": deployment.shell("systemctl cat concourse-web concourse-worker"),
    }
    for place, text in places.items():
        with chaos.case(SECRETS, place):
            assert text, place
            assert [name for name, secret in deployment.secrets.items() if secret in text] == []
    with chaos.case(SECRETS, "files"):
        assert readable(deployment) == []
    with chaos.case(SECRETS, "environments"):
        modes = deployment.shell(
            "for service in concourse-web concourse-worker; do stat -c %a"
            " /proc/$(systemctl show -p MainPID --value $service)/environ; done"
        )
        assert set(modes.split()) == {"400"}


def readable(deployment: Deployment) -> list[str]:
    """Return the files with a secret in them that the machine's other users can read."""
    machine = deployment.stage.units[UNIT].machine
    machine.write("/run/secrets-used", "\n".join(deployment.secrets.values()) + "\n", mode=0o600)
    script = (
        "find /etc /opt /var /run /tmp /usr/share/keyrings /usr/local -xdev -type f -size -4096k"
        " ! -path '/var/lib/juju/*' ! -path '/run/outside/*' -print0"
        " | xargs -0 -r grep -lFf /run/secrets-used 2>/dev/null || true"
    )
    found = machine.shell(script, timeout=120).splitlines()
    assert "/etc/concourse/web.env" in found, "the search finds what is there"
    argv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "test", "-r"]
    return [path for path in found if machine.run([*argv, path], timeout=9, check=False).returncode
            == 0]  # fmt: skip


def test_the_table_is_whole() -> None:
    rows = table()
    assert set(SOMETIMES) - {"/etc/concourse/web/tls.pem"} <= set(rows)
    assert Path("/etc/concourse/web.env").as_posix() in rows
