"""Many containers at once that want a few GPUs, ended in every way: run inside a machine.

Each life is create, start, exec and an end picked by dice: its exec killed, or its init, its
creating process, the runc that is on its way into it; with children left behind; kept
afterwards, as Concourse keeps the containers of failed builds.  What is in use is written down
here, from the moment that a create returns to the moment before an end is brought about, and
what a container was given is read from its /dev.  The wrapper's leases are never asked for it.

Called with: "runc" or "containerd", how many containers, how many at once, the dice's seed.
Prints one line of JSON; a GPU given to two is an error there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

BIN = Path("/opt/concourse/bin")
BUNDLES = Path("/run/containerd/io.containerd.runtime.v2.task")
TASK = "/tmp/build/0c0ffee1"
KEPT = 24  # containers whose task is over, and which are still there
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Book:
    """What is in use by whom, as the containers' own /dev says."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users: dict[str, str] = {}
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []

    def enter(self, handle: str, gpus: list[str]) -> None:
        with self.lock:
            for gpu in gpus:
                if gpu in self.users:
                    self.wrong.append(f"{gpu} is {self.users[gpu]}'s and was given to {handle}")
                self.users[gpu] = handle

    def leave(self, handle: str) -> None:
        with self.lock:
            self.users = {gpu: user for gpu, user in self.users.items() if user != handle}

    def count(self, what: str) -> None:
        with self.lock:
            self.seen[what] += 1


def spec(handle: str, count: int) -> dict[str, Any]:
    """A task's spec; its init is like Concourse's: it sits there, and its dead need no burial."""
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        {"destination": TASK, "type": "bind", "source": "/run/storm/work", "options": ["rbind"]},
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", "trap '' CHLD; exec sleep 3000"],
            "env": ["PATH=/usr/bin:/bin", f"CONCOURSE_GPU_COUNT={count}"],
            "cwd": "/",
        },
        "root": {"path": "/run/storm/rootfs"},
        "mounts": mounts,
        "linux": {
            "cgroupsPath": f"/garden/{handle}",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


class Runc:
    """Calls the wrapper as the shim does."""

    def __init__(self, handle: str) -> None:
        self.handle = handle
        self.bundle = BUNDLES / "concourse" / handle

    def call(self, *words: str) -> subprocess.Popen[bytes]:
        log = ["--root", "/run/storm/state", "--log", str(self.bundle / "log.json")]
        argv = [str(BIN / "runc"), *log, "--log-format", "json", *words]
        return subprocess.Popen(argv, cwd=self.bundle, start_new_session=True, **QUIET)

    def create(self, count: int) -> subprocess.Popen[bytes]:
        self.bundle.mkdir(parents=True)
        (self.bundle / "config.json").write_text(json.dumps(spec(self.handle, count)))
        pid_file = str(self.bundle / "init.pid")
        return self.call(
            "create", "--bundle", str(self.bundle), "--pid-file", pid_file, self.handle
        )

    def start(self) -> bool:
        return self.call("start", self.handle).wait() == 0

    def exec(self, name: str, script: str) -> subprocess.Popen[bytes]:
        process = {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
        }
        file = self.bundle / f"{name}.json"
        file.write_text(json.dumps(process))
        pid_file = str(self.bundle / f"{name}.pid")
        words = ("--process", str(file), "--detach", "--pid-file", pid_file, self.handle)
        return self.call("exec", *words)

    def delete(self) -> None:
        with suppress(OSError):
            self.call("delete", "--force", self.handle).wait()
        shutil.rmtree(self.bundle, ignore_errors=True)

    def said(self) -> str:
        with suppress(OSError, ValueError, IndexError):
            lines = (self.bundle / "log.json").read_text().splitlines()
            return str(json.loads(lines[-1])["msg"])
        return ""


class Containerd(Runc):
    """The same through ctr, containerd and its shim."""

    ctr = (str(BIN / "ctr"), "--namespace", "concourse")

    def call_ctr(self, *words: str) -> subprocess.Popen[bytes]:
        quiet = {**QUIET, "stderr": subprocess.PIPE}
        return subprocess.Popen([*self.ctr, *words], start_new_session=True, **quiet)

    def create(self, count: int) -> subprocess.Popen[bytes]:
        file = Path(f"/run/storm/{self.handle}.json")
        file.write_text(json.dumps(spec(self.handle, count)))
        for _ in range(120):  # containerd may be restarting just now
            if self.call_ctr("version").wait() == 0:
                break
            time.sleep(0.25)
        self.creating = self.call_ctr("run", "--detach", "--config", str(file), self.handle)
        return self.creating

    def start(self) -> bool:
        return True  # ctr run has started it

    def exec(self, name: str, script: str) -> subprocess.Popen[bytes]:
        words = ("--exec-id", name, self.handle, "/bin/sh", "-c", script)
        # A ctr whose containerd is restarted under its call may wait for an answer for ever.
        return self.call_ctr("--timeout", "20s", "tasks", "exec", "--detach", *words)

    def delete(self) -> None:
        for _ in range(6):  # containerd may be restarting just now
            self.call_ctr("tasks", "delete", "--force", self.handle).communicate()
            done = self.call_ctr("containers", "delete", self.handle)
            _, said = done.communicate()
            if not self.bundle.exists() and (done.returncode == 0 or b"not found" in said):
                return
            time.sleep(0.5)
        # A containerd that was killed during a create knows nothing of the container afterwards.
        with suppress(OSError, ValueError):
            kill([int((self.bundle / "init.pid").read_text())])

    def said(self) -> str:
        assert self.creating.stderr
        return self.creating.stderr.read().decode(errors="replace")


def nodes(pid: str) -> list[str]:
    found = os.listdir(f"/proc/{pid}/root/dev")
    return [name for name in found if name.startswith("nvidia") and name[6:].isdecimal()]


def inhabitants(handle: str, init: str) -> list[int]:
    """The processes in a container besides its init."""
    for place in (f"pids/garden/{handle}", f"garden/{handle}"):
        with suppress(OSError):
            pids = Path(f"/sys/fs/cgroup/{place}/cgroup.procs").read_text().split()
            return [int(pid) for pid in pids if pid != init]
    return []


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Storm:
    """Lives of containers, all at once."""

    def __init__(self, kind: type[Runc], seed: int) -> None:
        self.kind = kind
        self.seed = seed
        self.book = Book()
        self.kept: list[Runc] = []
        self.told: dict[str, list[str]] = {}

    def live(self, number: int) -> None:
        dice = random.Random(f"{self.seed} {number}")
        box = self.kind(f"storm{self.seed}-{number:05d}-{dice.randrange(1 << 32):08x}")
        try:
            self._life(box, dice)
        except FileNotFoundError:
            self.book.count("gone under our hands")  # its creation or its init was killed
        finally:
            self.book.leave(box.handle)
            self._keep(box, dice)

    def _life(self, box: Runc, dice: random.Random) -> None:
        creator = box.create(dice.choice((1, 1, 1, 2)))
        if dice.random() < 0.1:
            time.sleep(dice.random() * 0.5)
            if creator.poll() is None:
                kill([creator.pid])
                creator.wait()
                self.book.count("creator killed")
                box.delete()  # as the shim does with what could not be created
                return
        if creator.wait() != 0:
            said = box.said()
            self.book.count("refused" if " is held by " in said else said)
            box.delete()  # it may be there all the same, if containerd was restarted meanwhile
            return
        init = (box.bundle / "init.pid").read_text()
        gpus = nodes(init)
        self.book.enter(box.handle, gpus)
        self.book.count(f"given {len(gpus)}")
        if not box.start():
            raise FileNotFoundError
        end = dice.choice(("exec", "exec", "init", "on its way", "child", "no exec"))
        if end == "no exec":
            time.sleep(dice.random() * 0.2)
        else:
            child = "(sleep 3000 &) ; " if end == "child" else ""
            going = box.exec("one", f"{child}exec sleep 3000")
            if end == "on its way":
                time.sleep(dice.random() * 0.1)
                self.book.leave(box.handle)
                kill([going.pid])
            going.wait()
            time.sleep(dice.random() * 0.2)
        if end == "child":
            left = inhabitants(box.handle, init)
            kill(left[1:])  # one of them stays behind, GPU in hand
            time.sleep(dice.random() * 0.3)
        self.told[box.handle] = [f"ended by {end}"]
        self.book.leave(box.handle)
        kill([int(init)] if end in ("init", "no exec") else inhabitants(box.handle, init))
        self.book.count(f"ended by {end}")

    def _keep(self, box: Runc, dice: random.Random) -> None:
        """Keep a container for a while, and delete another that was kept."""
        with self.book.lock:
            self.kept.append(box)
            old = self.kept.pop(dice.randrange(KEPT)) if len(self.kept) > KEPT else None
        if old:
            old.delete()

    def settle(self) -> None:
        """End what an exec that was killed on its way left in kept containers.

        Where it never came, the lease counts for five minutes: there the container ends.
        """
        for box in self.kept:
            with suppress(OSError):
                init = (box.bundle / "init.pid").read_text()
                came = (box.bundle / "gpu-execs").exists()
                kill(inhabitants(box.handle, init) if came else [int(init)])


def restarts(stop: threading.Event, dice: random.Random, book: Book) -> None:
    """Restart containerd now and then; every second time as a crash."""
    pause = 3.0  # seconds
    while not stop.wait(pause):
        pause = dice.uniform(8, 16)
        if dice.random() < 0.5:
            crash = ["systemctl", "kill", "--signal=SIGKILL", "--kill-who=main", "wrapped"]
            subprocess.run(crash, check=False, timeout=60, **QUIET)
        subprocess.run(["systemctl", "restart", "wrapped"], check=False, timeout=60, **QUIET)
        book.count("restarts of containerd")


def leaked() -> list[str]:
    """Return who still holds GPUs, by the rule that gpu-status reads leases with."""
    from gpu.leases import held
    from host import Layout

    return [f"{each.handle} {','.join(each.uuids)}" for each in held(Layout())]


def main(mode: str, total: int, at_once: int, seed: int) -> None:
    """Run a storm and print what came of it."""
    for folder in ("rootfs/dev", "rootfs/proc", "rootfs/usr", f"rootfs{TASK}", "work"):
        Path(f"/run/storm/{folder}").mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        with suppress(FileExistsError):
            Path(f"/run/storm/rootfs/{name}").symlink_to(f"usr/{name}")
    storm = Storm(Runc if mode == "runc" else Containerd, seed)
    stop = threading.Event()
    others = threading.Thread(target=restarts, args=(stop, random.Random(seed), storm.book))
    begin = time.monotonic()
    if mode == "containerd":
        others.start()
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(storm.live, number) for number in range(total)]
        failures = [repr(each.exception()) for each in futures if each.exception()]
    stop.set()
    if mode == "containerd":
        others.join()
    storm.settle()
    time.sleep(1)
    left = leaked()
    for handle in [line.split()[0] for line in left]:
        left += [f"{handle}: {line}" for line in storm.told.get(handle, ["?"])]
    last = storm.kind(f"storm{seed}-last")
    took_all = last.create(4).wait() == 0
    kept = len(storm.kept)
    for box in (*storm.kept, last):
        box.delete()
    print(
        json.dumps(
            {
                "wrong": storm.book.wrong,
                "leaked": left,
                "took_all": took_all,
                "kept": kept,
                "failures": failures,
                "seconds": round(time.monotonic() - begin),
                "seen": dict(storm.book.seen),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:5]))
