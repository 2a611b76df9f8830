"""The process that holds one machine, and takes it down whatever happens to its owner.

Two processes.  `supervise` lives beside the owner and waits: when its standard
input ends (the owner has finished, or was killed), it kills the other one.  That
other one, `hold`, is the first process of a pid and mount namespace of its own, in
which the overlay is mounted and systemd-nspawn runs: when it dies, the kernel ends
every process of the machine and forgets its mounts.

Run as a script, before anything of this project can be imported, with the options
as JSON in its only argument.  It tells its owner what happens in lines of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rehearsal import groups, layer, namespaces


def say(**fields: str) -> None:
    """Tell the owner one thing."""
    print(json.dumps(fields), flush=True)


def supervise(options: dict[str, Any]) -> int:
    """Start the holder, wait for the end of either side, and clear up."""
    namespaces.own_mounts()
    groups.mount_missing()
    groups.sweep()
    name = f"{groups.PREFIX}{os.getpid()}"
    groups.enter(name)
    argv = ["setpriv", "--pdeathsig", "KILL"]
    argv += ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
    argv += ["--propagation", "unchanged"]
    argv += [sys.executable, str(Path(__file__).resolve()), json.dumps(options | {"hold": True})]
    holder = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def end(*_: object) -> None:
        holder.kill()

    def wait_for_owner() -> None:
        sys.stdin.buffer.read()  # nothing comes; it ends with the owner
        end()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait_for_owner, daemon=True).start()
    status = holder.wait()
    groups.remove(name)
    shutil.rmtree(options["place"], ignore_errors=True)
    return status


def hold(options: dict[str, Any]) -> NoReturn:
    """Mount the machine and run systemd-nspawn on it until it ends."""
    place = Path(options["place"])
    layer.mount(place)
    layer.prepare(place, options["hostname"], report=lambda text: say(step=text))
    console = place / "console.log"
    with console.open("wb") as log:
        machine = subprocess.Popen(
            layer.nspawn(place, options), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    say(step="Booting systemd in the copy")
    while True:  # the first process of a namespace is parent to every orphan in it
        pid, _ = os.wait()
        if pid == machine.pid:
            say(ended=console.read_text(errors="replace")[-2000:])
            sys.exit(1)


def main() -> int:
    """Do one of the two parts; report whatever goes wrong as one line."""
    options = json.loads(sys.argv[1])
    try:
        if options.get("hold"):
            hold(options)
        return supervise(options)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        say(error=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
