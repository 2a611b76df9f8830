#!/usr/bin/python3
"""Stand-in for nvidia-container-runtime: on `create` it puts GPU device nodes into config.json.

Configuration, the choice of devices and the ways to fail are those of version 1.20
in its default mode, as far as a charm and its tasks can tell.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

VERSION = "@VERSION@"
CONFIG = "nvidia-container-runtime/config.toml"
COMMON = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
# Environment variables that bring device nodes of their own; seen in 1.20.
SIDE_DOORS = ("NVIDIA_IMEX_CHANNELS", "NVIDIA_MOFED", "NVIDIA_GDS", "NVIDIA_GDRCOPY")


def main() -> NoReturn:
    """Do what the arguments ask, then become the low-level runtime."""
    arguments = sys.argv[1:]
    runtime = low_level_runtime()
    if arguments == ["--version"]:
        print(f"NVIDIA Container Runtime version {VERSION} (a stand-in of the rehearsal)")
        sys.stdout.flush()
        import subprocess  # here as below: what a create doesn't need is half of a start

        sys.exit(subprocess.run([runtime, "--version"], timeout=20, check=False).returncode)
    if "create" in arguments:
        path = Path(option(arguments, "bundle", "b") or ".") / "config.json"
        try:
            spec = json.loads(path.read_text())
            if inject(spec):
                path.write_text(json.dumps(spec))
        except (OSError, ValueError) as error:
            die(str(error), arguments)
    os.execv(runtime, [runtime, *arguments])


def low_level_runtime() -> str:
    """Return the first of the configured runtimes that exists, as the real one does."""
    config = configuration()
    match = re.search(r"^\s*runtimes\s*=\s*\[(.*?)\]", config, re.MULTILINE | re.DOTALL)
    names = re.findall(r"[\"']([^\"']+)[\"']", match[1]) if match else ["runc", "crun"]
    if names and names[0].startswith("/") and os.access(names[0], os.X_OK):
        return names[0]
    from shutil import which

    found = next(filter(None, map(which, names)), None)
    if not found:
        die(f"no runtime binary found from candidate list: {names}", sys.argv[1:])
    return found


def configuration() -> str:
    """Read the configuration file that wins (1.18: the variable, XDG_CONFIG_HOME, /etc)."""
    own = os.environ.get("NVIDIA_CTK_CONFIG_FILE_PATH")
    xdg = os.environ.get("XDG_CONFIG_HOME")
    path = Path(own) if own else Path(xdg or "/etc") / CONFIG
    try:
        text = path.read_text()
    except OSError as error:
        if own:
            die(f"error loading config: {error}", sys.argv[1:])
        return ""
    if text.count("[") != text.count("]"):
        die("error loading config: invalid TOML", sys.argv[1:])
    return text


def inject(spec: dict[str, Any]) -> bool:
    """Add the requested nodes to a spec; False if it asks for none."""
    env = dict(entry.split("=", 1) for entry in spec["process"].get("env", []) if "=" in entry)
    request = env.get("NVIDIA_VISIBLE_DEVICES")
    if request is None and "CUDA_VERSION" in env and "NVIDIA_REQUIRE_CUDA" not in env:
        request = "all"
    doors = [name for name in SIDE_DOORS if env.get(name)]
    if request in (None, "", "void") and not doors:
        return False
    driver = loaded_driver()
    nodes = [] if request in (None, "", "void") else chosen(request, driver)
    for name in (*nodes, *COMMON, *(f"nvidia-caps/{door.lower()}" for door in doors)):
        add_node(spec, name)
    return True


def loaded_driver() -> dict[str, Any]:
    """Return the driver's facts, or raise as NVML's initialisation fails."""
    try:
        driver: dict[str, Any] = json.loads(Path("/run/stand-in-gpu.json").read_text())
    except OSError:
        driver = {}
    libraries = Path("/usr/lib").glob(f"*-linux-gnu/libnvidia-ml.so.{driver.get('driver', '')}")
    if not driver.get("driver") or not any(libraries):
        raise ValueError("failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND")
    return driver


def chosen(request: str, driver: dict[str, Any]) -> list[str]:
    """Return the nodes of a request: all, none, indices or UUIDs."""
    gpus = [gpu for gpu in driver["gpus"] if Path(f"/dev/nvidia{gpu['index']}").exists()]
    if request == "none":
        return []
    if request == "all":
        return [f"nvidia{gpu['index']}" for gpu in gpus]
    names = {str(gpu["index"]): gpu for gpu in gpus} | {gpu["uuid"]: gpu for gpu in gpus}
    words = request.split(",")
    if len(set(words)) < len(words):
        return []  # as odd as in the original: duplicates give no GPU, with status 0
    unknown = [word for word in words if word not in names]
    if unknown:
        devices = ", ".join(f"nvidia.com/gpu={word}" for word in unknown)
        raise ValueError(f"unresolvable CDI devices {devices}")
    return [f"nvidia{names[word]['index']}" for word in words]


def add_node(spec: dict[str, Any], name: str) -> None:
    """Add one device node, and the control group's permission to use it."""
    try:
        status = os.stat(f"/dev/{name}")
    except OSError:
        return
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    linux = spec.setdefault("linux", {})
    node = {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor}
    linux.setdefault("devices", []).append({**node, "fileMode": 0o666, "uid": 0, "gid": 0})
    rule = {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
    linux.setdefault("resources", {}).setdefault("devices", []).append(rule)


def option(arguments: list[str], *names: str) -> str:
    """Return the last value of an option, by any of its names."""
    value = ""
    for place, argument in enumerate(arguments):
        word = argument.lstrip("-")
        if argument.startswith("-") and word in names and place + 1 < len(arguments):
            value = arguments[place + 1]
        elif argument.startswith("-") and word.partition("=")[0] in names:
            value = word.partition("=")[2]
    return value


def die(text: str, arguments: list[str]) -> NoReturn:
    """End with an error: a record in the log file that was named, and on standard error."""
    log = option(arguments, "log")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if log:
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"level": "error", "msg": text, "time": now}) + "\n")
    with suppress(OSError):  # containerd's shim gives a standard error that can't be written to
        os.write(2, f"{text}\n".encode())
    sys.exit(1)


if __name__ == "__main__":
    main()
