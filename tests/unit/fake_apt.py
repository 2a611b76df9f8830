"""A small apt and dpkg for scratch roots: real programs with a memory in a file.

They know packages by name and version, nothing of dependencies, and write down every
call with the part of the environment that matters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_PROGRAM = '''\
#!{python} -IS
import json, os, sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME, ARGUMENTS = Path(__file__).name, sys.argv[1:]
MEMORY = ROOT / "memory.json"
memory = json.loads(MEMORY.read_text())
passed = ("http_proxy", "https_proxy", "DEBIAN_FRONTEND", "NEEDRESTART_MODE", "NEEDRESTART_SUSPEND")
with (ROOT / "calls.jsonl").open("a") as calls:
    env = {{key: os.environ[key] for key in passed if key in os.environ}}
    calls.write(json.dumps([NAME, *ARGUMENTS]) + "\\t" + json.dumps(env) + "\\n")


def fail(step):
    """Fail as told: each step's list holds one text a call, "" for a call that works."""
    texts = memory["fail"].get(step, [])
    if not texts:
        return
    text = texts.pop(0)
    MEMORY.write_text(json.dumps(memory))
    if text:
        sys.exit(text)


packages = memory["installed"]
if NAME == "dpkg-query":
    form, names = ARGUMENTS[2], ARGUMENTS[3:]
    for name in names or packages:
        if name in packages:
            want, status, version = packages[name]
            if "Eflag" in form:
                print(status, "ok")
            else:
                print(name, want, status, version, sep="\\t")
    sys.exit(0 if all(name in packages for name in names) else 1)
if NAME == "dpkg":
    fail("configure")
    for entry in packages.values():
        entry[1] = "installed"
if NAME == "apt-cache":
    for name in ARGUMENTS[1:]:
        for version in memory["offers"].get(name, []):
            print(f" {{name}} | {{version}} | http://mirror/ Packages")
if NAME == "apt-get" and ARGUMENTS[0] == "update":
    fail("update")
    memory["offers"].update(memory["news"])
if NAME == "apt-get" and ARGUMENTS[0] == "install":
    wanted, left = [], iter(ARGUMENTS[1:])
    for one in left:
        if one == "-o":
            next(left)
        elif one[0] != "-":
            name, _, version = one.partition("=")
            wanted.append((name, version))
    if "-s" in ARGUMENTS:
        fail("plan")
        for name, version in [*wanted, *memory["along"].items()]:
            print(f"Inst {{name}} ({{version}} Mirror [amd64])")
        sys.exit(0)
    for name, version in wanted:
        if (version or memory["offers"].get(name, [None])[0]) not in memory["offers"].get(name, []):
            sys.exit(f"E: Unable to locate package {{name}}")
        if packages.get(name, ["install"])[0] == "hold":
            sys.exit("E: Held packages were changed and -y was used without ...")
    if "--download-only" in ARGUMENTS:
        fail("download")
        sys.exit(0)
    fail("unpack")
    for name, version in wanted:
        packages[name] = ["install", "installed", version or memory["offers"][name][0]]
        for program in memory["programs"].get(name, []):
            (ROOT / "usr/bin" / program).write_text("#!/bin/sh\\n")
            (ROOT / "usr/bin" / program).chmod(0o755)
MEMORY.write_text(json.dumps(memory))
'''


_PROGRAMS = {"jq": ["jq"], "nvidia-container-toolkit-base": ["nvidia-container-runtime"]}


class FakeApt:
    """What the programs know, and what they were called for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        folder = root / "usr/bin"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("apt-get", "apt-cache", "dpkg", "dpkg-query"):
            (folder / name).write_text(_PROGRAM.format(python=sys.executable))
            (folder / name).chmod(0o755)
        empty: dict[str, Any] = {"installed": {}, "offers": {}, "news": {}, "along": {}, "fail": {}}
        self._write({**empty, "programs": _PROGRAMS})

    def _read(self) -> dict[str, Any]:
        memory: dict[str, Any] = json.loads((self._root / "memory.json").read_text())
        return memory

    def _write(self, memory: dict[str, Any]) -> None:
        (self._root / "memory.json").write_text(json.dumps(memory))

    def install(
        self, *names: str, version: str, want: str = "install", status: str = "installed"
    ) -> None:
        memory = self._read()
        memory["installed"].update({name: [want, status, version] for name in names})
        self._write(memory)
        for program in (one for name in names for one in _PROGRAMS.get(name, [])):
            (self._root / "usr/bin" / program).write_text("#!/bin/sh\n")
            (self._root / "usr/bin" / program).chmod(0o755)

    def offer(self, *names: str, versions: list[str], after_update: bool = False) -> None:
        memory = self._read()
        memory["news" if after_update else "offers"].update(dict.fromkeys(names, versions))
        self._write(memory)

    def bring_along(self, **packages: str) -> None:
        memory = self._read()
        memory["along"] = {name.replace("_", "-"): version for name, version in packages.items()}
        self._write(memory)

    def fail(self, step: str, *texts: str) -> None:
        memory = self._read()
        memory["fail"][step] = list(texts)
        self._write(memory)

    def version(self, name: str) -> str:
        entry = self._read()["installed"].get(name)
        return str(entry[2]) if entry else ""

    def calls(self) -> list[list[str]]:
        """Every call so far: the program's name and its arguments."""
        return [json.loads(line.partition("\t")[0]) for line in self._lines()]

    def environments(self) -> list[dict[str, str]]:
        return [json.loads(line.partition("\t")[2]) for line in self._lines()]

    def forget_calls(self) -> None:
        (self._root / "calls.jsonl").unlink(missing_ok=True)

    def changing(self) -> list[str]:
        """What was asked of apt-get and dpkg, in short."""
        return [_short(call) for call in self.calls() if call[0] in ("apt-get", "dpkg")]

    def _lines(self) -> list[str]:
        file = self._root / "calls.jsonl"
        return file.read_text().splitlines() if file.exists() else []


def _short(call: list[str]) -> str:
    if call[0] == "dpkg":
        return "configure"
    if call[1] == "install":
        return "download" if "--download-only" in call else "plan" if "-s" in call else "unpack"
    return call[1]
