"""The worker: its files, what it is seen to do, and the service around it.

A worker reads its environment, keys and containerd configuration at start only,
so the environment file carries a stamp over all of them.  A running process that
has an older stamp is restarted, once, after it has landed (finished its builds);
systemd waits for that, no hook does.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from concourse import service, theirs
from concourse.errors import ConcourseError
from concourse.keys import public_line, tsa_host_key, worker_key
from concourse.observation import (
    WorkerState,
    is_idle,
    is_registered,
    observe,
    runs,
    stamp_of_file,
    stamp_of_process,
    would_restart,
)
from concourse.render import render
from concourse.teardown import remove, retire, stop
from files import ensure_dir, read_text, write_file
from files import remove as remove_file
from host import Layout

__all__ = [
    "WorkerState",
    "WorkerWish",
    "baggageclaim_driver",
    "ensure_files",
    "ensure_running",
    "is_idle",
    "observe",
    "remove",
    "runs",
    "stop",
    "worker_name",
    "would_restart",
]

log = logging.getLogger(__name__)

LAND_LIMIT = 3600  # seconds that a worker has to finish its builds before a restart
MAX_TASKS = "CONCOURSE_MAX_ACTIVE_TASKS"  # a flag since 8.3.0; older releases don't read it
STOP_LIMIT = 120  # seconds that it has after that, once told to stop at once

# What Concourse's own containerd configuration switches off: CRI, which nothing asks for,
# and everything around snapshots, which baggageclaim does itself (v8.2.5 and later,
# worker/workercmd/containerd.go).  A containerd that doesn't know a name ignores it.
DISABLED_PLUGINS = (
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.sandbox.store.v1.local",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.sandbox.controller.v1.shim",
    "io.containerd.grpc.v1.sandbox-controllers",
    "io.containerd.grpc.v1.sandboxes",
    "io.containerd.service.v1.snapshots-service",
    "io.containerd.grpc.v1.snapshots",
    "io.containerd.differ.v1.erofs",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.native",
)


@dataclass(frozen=True)
class WorkerWish:
    """How a worker is to run.

    Attributes:
        name: unique among the web's workers; no slash, comma or space.
        tsa_hosts: the web's SSH gateways, "host:port" each.
        tsa_host_key: their public host key, one line.
        tags: the worker's tags; with none it takes untagged steps.
        log_level: "debug", "info", "error" or "fatal"; containerd's too.
        dns_proxy: whether containers ask a DNS proxy on the worker.
        dns_server: name servers for containers, separated by commas; "" for the host's.
        baggageclaim_driver: "detect", "overlay", "naive" or "btrfs".
        containerd_config: where a containerd configuration is to lie that pins PATH to
            Concourse's own; None for the one that Concourse writes itself.
        max_tasks: how many tasks a web that limits them is to give this worker at a time; 0
            says nothing to it.
        extra: more variables, none of extra_env.WORKER_MANAGED.
        proxies: `http_proxy`, `https_proxy` and `no_proxy`, as far as set; containers
            get them.
        restart: another value has the worker restart; nothing reads it.
    """

    name: str
    tsa_hosts: tuple[str, ...]
    tsa_host_key: str
    tags: tuple[str, ...] = ()
    log_level: str = "info"
    dns_proxy: bool = False
    dns_server: str = ""
    baggageclaim_driver: str = "detect"
    containerd_config: Path | None = None
    max_tasks: int = 0
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxies: Mapping[str, str] = field(default_factory=dict)
    restart: str = ""


def baggageclaim_driver(option: str, in_lxd: bool) -> str:
    """Return Concourse's name for the volume driver that an option asks for.

    Concourse's own detection always takes overlay, untried, which often can't be
    mounted in an LXD container; naive, which copies, works everywhere (v8.2.5,
    worker/baggageclaim/baggageclaimcmd/driver_linux.go).
    """
    if option != "auto":
        return option
    return "naive" if in_lxd else "detect"


def worker_name(unit: str) -> str:
    """Return the worker's name for a Juju unit: worker/0 becomes worker-0.

    A slash would not survive the web's API, where the name is part of a path.
    """
    return unit.replace("/", "-")


def ensure_files(layout: Layout, wish: WorkerWish, tree: Path) -> bool:
    """Make everything exist that the service reads: environment, host key, unit file.

    Nothing running is touched, and systemd only where its unit file changed.

    Args:
        layout: the paths.
        wish: how the worker is to run.
        tree: the release that /opt/concourse leads to, or is about to.

    Returns:
        True if anything changed.

    Raises:
        ConcourseError: a setting can't be passed on.
    """
    variables = environment(layout, wish)
    unit = render(
        "concourse-worker.service.j2",
        prefix=layout.concourse,
        work_dir=layout.work_dir,
        environment=layout.worker_env,
        land_limit=LAND_LIMIT,
        stop_limit=STOP_LIMIT,
    )
    containerd = render(
        "containerd-gpu.toml.j2", prefix=layout.concourse, disabled_plugins=DISABLED_PLUGINS
    )
    host_key = public_line(wish.tsa_host_key, "the web's host key") + "\n"
    read_at_start = [repr(variables), unit, host_key, identity(tree)]
    read_at_start.append(read_text(worker_key(layout)) or "")
    if wish.containerd_config:
        read_at_start.append(containerd)
    if wish.restart:
        read_at_start.append(wish.restart)
    variables["CHARM_STAMP"] = hashlib.sha256("\0".join(read_at_start).encode()).hexdigest()[:32]

    ensure_dir(layout.keys, 0o700)
    layout.work_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    changed = write_file(tsa_host_key(layout), host_key, mode=0o600)
    if wish.containerd_config:
        changed |= write_file(wish.containerd_config, containerd)
    text = render("worker.env.j2", variables=variables.items())
    theirs.keep(layout, layout.worker_env)
    changed |= write_file(layout.worker_env, text, mode=0o600)
    if wish.containerd_config != layout.gpu_containerd:
        changed |= remove_file(layout.gpu_containerd)
    return service.write_unit(layout, layout.worker_unit, unit) or changed


def environment(layout: Layout, wish: WorkerWish) -> dict[str, str]:
    """Return the worker's environment, without the stamp.

    Concourse names each variable CONCOURSE_ and its flag, lists separated by commas;
    the proxies are the exception (v8.2.5, worker/workercmd, worker/tsa_config.go).
    CONCOURSE_GARDEN_… must not be there: it is fatal with containerd.
    """
    for value in (wish.name, *wish.tags, *wish.tsa_hosts):
        if not value or re.search(r"[\s,]", value):
            raise ConcourseError(f"{value!r} can't be a worker's name, tag or gateway")
    if "/" in wish.name:
        raise ConcourseError(f"{wish.name!r} can't be a worker's name: it holds a slash")
    if not wish.tsa_hosts:
        raise ConcourseError("the web has given no gateway yet", retry=True)
    variables = {
        "CONCOURSE_NAME": wish.name,
        "CONCOURSE_TAG": ",".join(wish.tags),
        "CONCOURSE_TSA_HOST": ",".join(wish.tsa_hosts),
        "CONCOURSE_TSA_PUBLIC_KEY": str(tsa_host_key(layout)),
        "CONCOURSE_TSA_WORKER_PRIVATE_KEY": str(worker_key(layout)),
        "CONCOURSE_WORK_DIR": str(layout.work_dir),
        "CONCOURSE_RUNTIME": "containerd",
        "CONCOURSE_BAGGAGECLAIM_DRIVER": wish.baggageclaim_driver,
        "CONCOURSE_HEALTHCHECK_BIND_IP": "127.0.0.1",
        "CONCOURSE_LOG_LEVEL": wish.log_level,
        "CONCOURSE_CONTAINERD_LOG_LEVEL": wish.log_level,
        "CONCOURSE_CONTAINERD_CONFIG": str(wish.containerd_config or ""),
        "CONCOURSE_CONTAINERD_DNS_PROXY_ENABLE": "true" if wish.dns_proxy else "",
        MAX_TASKS: str(wish.max_tasks or ""),
        "CONCOURSE_CONTAINERD_DNS_SERVER": ",".join(wish.dns_server.replace(" ", "").split(",")),
    }
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        variables[name] = wish.proxies.get(name, "")
    variables.update(wish.extra)
    return {name: value for name, value in variables.items() if value}


def ensure_running(layout: Layout, before: service.UnitState | None = None) -> bool:
    """Make the service run with what its files say now; never waits for it.

    A stopped one is started, a failed one too; a running one with an older stamp gets a
    restart, which lands first (if the web has it, else it is stopped at once); one on its
    way down is left to come up again, which is queued if it isn't.

    Args:
        layout: the paths.
        before: what the caller has just seen of it; None to look.

    Returns:
        True if systemd was asked for anything.

    Raises:
        ConcourseError: systemd has no such service, or it is masked.
        host.CommandError: systemd refused.
    """
    before = before or service.show(layout)

    def is_current(pid: int) -> bool:
        return stamp_of_process(layout, pid) == stamp_of_file(layout)

    goes_down = before.active == "deactivating" or (
        before.active == "active" and not is_current(before.pid)
    )
    change = "The worker's settings changed: it restarts when its builds are done"
    changed = service.ensure_running(layout, is_current, change, state=before)
    return (goes_down and _hasten(layout, before)) or changed


def _hasten(layout: Layout, state: service.UnitState) -> bool:
    """Tell a worker that is to go down, but can't land, to stop at once.

    Landing is asked of the web: a worker that a gateway refuses tries it again and again
    (v8.2.5, worker/beacon_runner.go) until the unit's limit.  It gets no builds anyway.
    """
    if is_registered(layout, state):
        return False
    return service.send(layout, "SIGTERM")


def dismiss(layout: Layout, *, keep_config: bool) -> bool:
    """Let a worker that is related to no web any more finish and stop; waits for nothing.

    A web that still has it is to forget it: one that merely landed would stay in its list
    for ever, as nobody else unregisters it.

    Args:
        layout: the paths.
        keep_config: whether the GPU's containerd configuration is still wanted.

    Returns:
        True if anything changed.

    Raises:
        host.CommandError: systemd refused.
    """
    known = is_registered(layout, service.show(layout))
    changed = retire(layout) if known else service.land(layout)
    if not keep_config and service.is_down(layout):
        changed |= remove_file(layout.gpu_containerd)
    return changed


def identity(tree: Path) -> str:
    """Return what tells one release's concourse from another's, without reading it."""
    try:
        status = (tree / "bin/concourse").stat()
    except OSError:
        return tree.name
    return f"{tree.name} {status.st_size} {int(status.st_mtime)}"
