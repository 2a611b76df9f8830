"""Containers as Concourse and Docker have them created, whatever is wrong with the machine.

They lie below /run, where no full disk reaches them.  Each is created and looked into before its
program starts, as `/proc/PID/root` shows it then, and deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from rehearsal.containers import bundle
from rehearsal.machine import Machine

# What comes of one: created with its GPU, created without, refused, or no such runtime here.
GPU, PLAIN, REFUSED, ABSENT = "with its GPU", "without a GPU", "refused", "no runtime"
CHECK, TASK, ASKING, DOCKER = "chaos-check", "chaos-task", "chaos-asking", "chaos-docker"
_RUNC = "/opt/concourse/bin/runc"
_KINDS: Mapping[str, tuple[str, bool, dict[str, str]]] = {
    CHECK: (_RUNC, False, {"NVIDIA_VISIBLE_DEVICES": "all"}),
    TASK: (_RUNC, True, {}),
    ASKING: (_RUNC, True, {"NVIDIA_VISIBLE_DEVICES": "0"}),
    DOCKER: ("/usr/bin/nvidia-container-runtime", False, {"NVIDIA_VISIBLE_DEVICES": "all"}),
}
_FOLDER = "/run/rehearsal"  # as `bundle` has it
# The wrapper's sentences about a GPU that can't be had.
_SENTENCE = re.compile(
    r"this worker has no usable GPU: [^\n]{1,150}"
    r"|GPU \"0\" is not available on this worker \((it has none to give|available: [^()]*)\)"
)


def prepare(machine: Machine) -> None:
    """Lay the containers' bundles out."""
    for handle, (_, task, env) in _KINDS.items():
        bundle(machine, handle, task=task, env=env)


def created(machine: Machine, *handles: str) -> dict[str, str]:
    """Create containers, all of them or those named; return what came of each.

    Raises:
        AssertionError: one was refused without a sentence that says why.
    """
    lines = [_create(handle) for handle in handles or _KINDS]
    found = {}
    for line in machine.shell("\n".join(lines), timeout=90).splitlines():
        handle, outcome, rest = line.split(" ", 2)
        if outcome == "created":
            found[handle] = GPU if "nvidia0" in rest.split() else PLAIN
        elif outcome == "refused" and handle in (TASK, ASKING):
            said = json.loads(rest)["msg"]
            assert _SENTENCE.fullmatch(said), said
            found[handle] = REFUSED
        else:
            found[handle] = REFUSED if outcome == "refused" else ABSENT
    return found


def expected(asking: str, docker: str) -> dict[str, str]:
    """Return what is right where these come of a task that asks for a GPU and of Docker's.

    A check gets no GPU, a task that asks for nothing what there is, and each is created.
    """
    task = GPU if asking == GPU else PLAIN
    return {CHECK: PLAIN, TASK: task, ASKING: asking, DOCKER: docker}


def _create(handle: str) -> str:
    """Return the lines of sh that create a container and print one line on it."""
    runtime, folder = _KINDS[handle][0], f"{_FOLDER}/{handle}"
    root = "--root /run/chaos-runc"
    log = f"--log {folder}/log.json --log-format json"
    create = f"create --bundle {folder} --pid-file {folder}/pid {handle}"
    return (
        f"cd {folder}; cp spec.json config.json; rm -f log.json pid\n"
        f"if [ ! -x {runtime} ]; then echo {handle} absent -\n"
        f"elif timeout 20 {runtime} {root} {log} {create} </dev/null >/dev/null 2>&1; then\n"
        f"  echo {handle} created - $(ls /proc/$(cat pid)/root/dev)\n"
        f"else printf '{handle} refused %s\\n' \"$(tail -n 1 log.json)\"; fi\n"
        f"{_RUNC} {root} delete --force {handle} >/dev/null 2>&1"
    )
