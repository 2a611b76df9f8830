"""Builds on a real web: tasks as `fly execute` runs them, from the worker's machine.

They take the whole way: the web's scheduling by tags, the worker's garden server, its
containerd, the wrapper.  The image is a folder on each worker, so no registry is needed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .machine import Machine
from .model_stage import Stage

WEB, WORKER, CPU = "web/0", "worker/0", "cpu/0"
_FOLDER = "/run/rehearsal-builds"
_IMAGE = f"{_FOLDER}/image"
_NOBODY = 4294967294  # the user that a container's root is on the machine
# Two programs and the libraries that they are linked with.
_MAKE_IMAGE = f"""
mkdir -p {_IMAGE}
for program in /bin/sh /bin/ls; do
  ldd $program | grep -o '/[^ ]*' | xargs cp --dereference --parents --target-directory={_IMAGE}
  cp --dereference --parents $program {_IMAGE}
done
mkdir -p {_IMAGE}/dev {_IMAGE}/etc {_IMAGE}/proc {_IMAGE}/sys
mkdir -m 1777 {_IMAGE}/tmp
chown -R {_NOBODY}:{_NOBODY} {_IMAGE}
"""


def run(stage: Stage) -> None:
    """Run tasks with and without a tag and with each kind of request, and read their logs."""
    stage.screen.part("fly execute, on the real web")
    machine = stage.units[WORKER].machine
    for unit in (WORKER, CPU):
        stage.units[unit].machine.shell(_MAKE_IMAGE)
    if not _log_in(stage, machine):
        stage.screen.line("The release holds no fly: no build is run")
        return
    every = tuple(f"nvidia{index}" for index in range(stage.choice.gpus))
    _task(stage, machine, "a task with tags: [gpu]", every, tag="gpu")
    _task(stage, machine, "one that asks for GPU 0", ("nvidia0",), tag="gpu", asks="0")
    _task(stage, machine, "one that asks for none", (), tag="gpu", asks="none")
    _task(stage, machine, "a task without a tag", (), worker="cpu-0")
    log = _execute(machine, tag="gpu", asks="9")
    sentence = re.search(r"GPU \"9\" is not available.*", log)
    said = sentence[0] if sentence else log[-300:]
    stage.screen.check(bool(sentence), "one that asks for GPU 9 ends with", said)
    stage.screen.plain(said)


def check_rules(stage: Stage) -> None:
    """Check that nothing of the containers' network is left on the workers' machines."""
    script = "iptables -S; iptables -t nat -S; ip -brief link; find /var/lib/cni 2>/dev/null"
    for unit in (WORKER, CPU):
        words = stage.units[unit].machine.shell(script, check=False).splitlines()
        left = [line for line in words if re.search("concourse|10[.]80[.]|CNI-", line, re.I)]
        stage.screen.check(not left, f"{unit} left no rule of its network", "; ".join(left))


def _log_in(stage: Stage, machine: Machine) -> bool:
    """Fetch fly from the web, as an operator does, and log in; False if the web has none."""
    said = stage.units[WEB].action("get-admin-password").results
    address = urlsplit(said["url"])
    fetch = (
        "import shutil, sys, urllib.request as r\n"
        "with r.urlopen(sys.argv[1], timeout=60) as web, open(sys.argv[2], 'wb') as fly:\n"
        "    shutil.copyfileobj(web, fly)\n"
    )
    architecture = machine.shell("dpkg --print-architecture").strip()
    source = f"http://{address.netloc}/api/v1/cli?arch={architecture}&platform=linux"
    argv = ["env", "python3", "-c", fetch, source, f"{_FOLDER}/fly"]
    if machine.run(argv, timeout=90, check=False).returncode != 0:
        return False
    machine.shell(f"chmod 755 {_FOLDER}/fly")
    login = ["login", "-c", said["url"], "-u", said["username"], "-p", said["password"]]
    machine.run([f"{_FOLDER}/fly", "-t", "web", *login], timeout=30)
    return True


def _task(
    stage: Stage,
    machine: Machine,
    who: str,
    wanted: tuple[str, ...],
    *,
    tag: str = "",
    asks: str = "",
    worker: str = "worker-0",
) -> None:
    """Run a task that lists its devices, and check what it saw, and where it ran."""
    log = _execute(machine, tag=tag, asks=asks)
    seen = tuple(sorted(set(re.findall(r"\bnvidia\d+\b", log))))
    ran = f"selected worker: {worker}" in log and log.rstrip().endswith("succeeded")
    what = ", ".join(f"/dev/{name}" for name in seen) or "no GPU"
    stage.screen.check(ran and seen == wanted, f"{who} runs on {worker} and sees {what}",
                       log[-600:])  # fmt: skip


def _execute(machine: Machine, *, tag: str, asks: str) -> str:
    """Run one task to its end; return its log, without colours."""
    params = f"params: {{NVIDIA_VISIBLE_DEVICES: '{asks}'}}\n" if asks else ""
    machine.write(
        f"{_FOLDER}/task.yml",
        f"platform: linux\nrootfs_uri: raw://{_IMAGE}\n{params}"
        "run: {path: /bin/ls, args: [/dev]}\n",
    )
    argv = [f"{_FOLDER}/fly", "-t", "web", "execute", "-c", f"{_FOLDER}/task.yml"]
    done = machine.run([*argv, *(["--tag", tag] if tag else [])], timeout=120, check=False)
    return re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
