"""What each option takes, and where what it took is read: apart from the charm's own readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from desired import Wish
from tests.chaos.hostile_hooks import Held
from tests.unit.toolkit_roots import KEY

_URL = r"https?://[^\s\"'\\]{1,500}"
_RELEASE = r"[0-9]{1,4}(\.[0-9]{1,4}){2}"
_ADDRESSES = r"[0-9A-Za-z:.,%_ -]*"
_DEVICE = r"[0-9]{1,3}(:[0-9]{1,3})?|(GPU|MIG)-[0-9a-f/GPU-]+"
_CAPABILITY = "compute|compat32|graphics|utility|video|display|ngx"
_TAG = r"[A-Za-z0-9._=+:/@~-]{1,64}"
_ANYTHING = r"[\s\S]*"


@dataclass(frozen=True)
class Option:
    """What a model that knows no more than config.yaml expects of an option.

    Attributes:
        takes: a pattern of everything that it may take, blanks around it aside.
        good: values that it has to take.
        reads: whether a taken value, blanks off, is what its readers find.
        reader: "web" or "gpu" where a unit without one doesn't look at it.
    """

    takes: str
    good: tuple[Any, ...]
    reads: Callable[[Held, str], bool]
    reader: str = ""


def _list(pattern: str) -> str:
    return f" *({pattern}) *(, *({pattern}) *)*"


def _wished(held: Held) -> Wish:
    assert held.wish
    return held.wish


def _has(role: str, variable: str, change: Callable[[str], str] = str) -> Callable[..., bool]:
    """Return whether an environment, if its role is there, has a value as `change` writes it."""

    def reads(held: Held, value: str) -> bool:
        files = held.files.get(role)
        return files is None or files.get(variable, "") == change(value)

    return reads


def _wish(get: Callable[[Wish], object]) -> Callable[[Held, str], bool]:
    return lambda held, value: str(get(_wished(held))) == value


def _level(held: Held, value: str) -> bool:
    return all(_has(role, "CONCOURSE_LOG_LEVEL")(held, value) for role in ("web", "worker"))


def _external_url(held: Held, value: str) -> bool:
    """An empty one is the unit's own address."""
    reads = _has("web", "CONCOURSE_EXTERNAL_URL", lambda text: text.rstrip("/"))
    return not value or reads(held, value)


def _strategies(value: str) -> str:
    return ",".join(dict.fromkeys(one.strip() for one in value.split(",") if one.strip()))


def _unlimited(value: str) -> str:
    return "" if value == "0" else value


def variables(text: str) -> dict[str, str]:
    """Return the variables of web-env or worker-env, by their description in config.yaml."""
    lines = (line.strip(" \t") for line in re.split(r"\r\n|\n|\r", text))
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.rstrip(" \t"): value.lstrip(" \t") for name, _, value in pairs}


def _variables(role: str) -> Callable[[Held, str], bool]:
    """Return whether each line is a variable; some of the web's are a list that it adds to."""

    def reads(held: Held, text: str) -> bool:
        files = held.files.get(role)
        return files is None or all(
            files[name] == value or files[name].endswith(f",{value}")
            for name, value in variables(text).items()
        )

    return reads


def _devices(held: Held, value: str) -> bool:
    gpu = _wished(held).gpu
    assert gpu
    found = ["all"] if gpu.request.everything else [one.lower() for one in gpu.request.wanted]
    return found == list(dict.fromkeys(one.strip(" ").lower() for one in value.split(",")))


def _capabilities(held: Held, value: str) -> bool:
    found = held.files["devices"]["capabilities"].split(",")
    return set(found) == {one.strip(" ").lower() for one in value.split(",")}


def _tags(held: Held, value: str) -> bool:
    found = held.files["worker"].get("CONCOURSE_TAG", "")
    if value == "auto":
        return found in ("", "gpu,gpu-type=nvidia,gpu-count=1")
    own = () if value == "none" else dict.fromkeys(one.strip(" ") for one in value.split(","))
    return found == ",".join(own)


def _source(held: Held, value: str) -> bool:
    whole = value if "$(ARCH)" in value else f"{value.rstrip('/')}/$(ARCH)"
    return held.files["apt"]["URIs"] == f"{whole}/"


def _pin(held: Held, value: str) -> bool:
    return held.files["apt"]["Pin"] == f"version {value}" + ("" if "-" in value else "-*")


def _key(held: Held, value: str) -> bool:
    """A key that is taken is in the keyring, whatever stood around it."""
    if not value:
        return "apt" not in held.files
    line = KEY.splitlines()[2]
    return line not in value or held.files["apt"]["key"].startswith(line)


def _limit(what: str) -> Option:
    reads = _has("web", f"CONCOURSE_MAX_ACTIVE_{what.upper()}_PER_WORKER", _unlimited)
    return Option("0|[1-9][0-9]{0,4}|100000", (100_000, 0), reads, "web")


def _switched(role: str, variable: str, on: str) -> Callable[[Held, str], bool]:
    return _has(role, variable, lambda value: on if value == "True" else "")


# Values that have to be refused, some of which were not once.
BAD: dict[str, tuple[Any, ...]] = {
    "concourse-release-url": ("http://x/\x1b[31m", "http://x/\u00e9", "file:///x"),
    "containerd-dns-server": ("fe80::1%$(id)", "fe80::1%\nX=1", ",".join(["::1"] * 33)),
    "deployment-mode": ("\U000e0001" * 60,),
    "external-url": (
        "https://ci.example.com/\x1b[31m",
        "https://[fe80::1%25eth0]",
        "http://\u00e9",
    ),
    "gpu-lease-timeout": (-1, 241, 2**63),
    "gpu-worker-tags": ("gpu\u2028", ",".join(["a"] * 129)),
    "nvidia-repository-key": (KEY.splitlines()[0] + "\n", (KEY.splitlines()[0] + "\n") * 7000),
    "nvidia-repository-url": ("file:///x/%n", f"http://x/{'y' * 500}", 'http://x/"'),
    "web-env": ("CONCOURSE_X=\ufffe", f"CONCOURSE_X={chr(0x1F600) * 8193}", "LD_PRELOAD=/x"),
    "web-port": (2222, 0, -1, 65536),
    "worker-env": ("CONCOURSE_X=\ufdd0", f"CONCOURSE_X={chr(0x1F600) * 8193}", "PATH=/x"),
}
_TRUTH = "True|False"
_UUID = f"{'0' * 8}{'-0000' * 3}-{'0' * 12}"
OPTIONS = {
    "deployment-mode": Option("auto|all|web|worker", ("all",), _wish(lambda wish: wish.mode)),
    "concourse-version": Option(
        _RELEASE, ("8.2.5", "9999.9999.9999"), _wish(lambda wish: wish.release.version)
    ),
    "concourse-release-url": Option(
        _URL,
        ("https://mirror.example/releases", "http://x/$(reboot);%n&{}"),
        lambda held, value: _wished(held).release.url == value.rstrip("/"),
    ),
    "concourse-sha256": Option(
        "([0-9A-Fa-f]{64})?",
        ("", "aB" * 32),
        lambda held, value: _wished(held).release.sha256 == value.lower(),
    ),
    "log-level": Option("debug|info|error|fatal", ("debug", "fatal"), _level),
    "containerd-dns-proxy-enable": Option(
        _TRUTH,
        (True,),
        _switched("worker", "CONCOURSE_CONTAINERD_DNS_PROXY_ENABLE", "true"),
    ),
    "containerd-dns-server": Option(
        _ADDRESSES,
        ("10.0.0.1, fe80::1%eth0", "::1"),
        _has("worker", "CONCOURSE_CONTAINERD_DNS_SERVER", lambda value: value.replace(" ", "")),
    ),
    "baggageclaim-driver": Option(
        "auto|overlay|naive|btrfs", ("btrfs",), _has("worker", "CONCOURSE_BAGGAGECLAIM_DRIVER")
    ),
    "web-port": Option("[1-9][0-9]{0,4}", (80, 65535), _has("web", "CONCOURSE_BIND_PORT"), "web"),
    "external-url": Option(
        f"({_URL})?",
        ("https://ci.example.com/x?y=%20&z=$(reboot)", "http://[::1]:80", ""),
        _external_url,
        "web",
    ),
    "tls-enabled": Option(_TRUTH, (False,), lambda *_: True, "web"),
    "initial-admin-username": Option(
        r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}",
        ("root", "a@b.c-d_e"),
        _has("web", "CONCOURSE_ADD_LOCAL_USER", lambda value: f"{value}:password"),
        "web",
    ),
    "database-encryption": Option(_TRUTH, (True,), lambda *_: True, "web"),
    "enable-metrics": Option(
        _TRUTH,
        (True,),
        _switched("web", "CONCOURSE_PROMETHEUS_BIND_PORT", "9391"),
        "web",
    ),
    "container-placement-strategy": Option(
        r"[\sa-z,-]*",
        ("random, limit-active-tasks", ""),
        _has("web", "CONCOURSE_CONTAINER_PLACEMENT_STRATEGY", _strategies),
        "web",
    ),
    **{
        f"max-active-{what}-per-worker": _limit(what) for what in ("tasks", "containers", "volumes")
    },
    "web-env": Option(
        _ANYTHING,
        ("CONCOURSE_X=$(reboot) %n \\\"'${PATH}\nCONCOURSE_ADD_LOCAL_USER=a:b", ""),
        _variables("web"),
        "web",
    ),
    "worker-env": Option(
        _ANYTHING, ("# x\r\nCONCOURSE_X = `reboot` $$ '\"\u2028\u00e9\\", ""), _variables("worker")
    ),
    "max-unavailable": Option(
        "[1-9][0-9]{0,2}|1000", (1000,), _wish(lambda wish: wish.max_unavailable)
    ),
    "enable-gpu": Option(_TRUTH, (True, False), _wish(lambda wish: bool(wish.gpu)), "gpu"),
    "gpu-device-ids": Option(
        _list(f"(?i:all|{_DEVICE})"), ("all", "0, 0:1", f"GPU-{_UUID}"), _devices, "gpu"
    ),
    "gpu-driver-capabilities": Option(
        _list(f"(?i:all|{_CAPABILITY})"), ("utility, compute", "ALL"), _capabilities, "gpu"
    ),
    "gpu-worker-tags": Option(_list(_TAG), ("auto", "none", "a=b, c/d@~"), _tags, "gpu"),
    "gpu-sharing": Option(
        "shared|balanced|exclusive",
        ("balanced", "exclusive"),
        lambda held, value: held.files["devices"]["sharing"] == value,
        "gpu",
    ),
    "gpu-lease-timeout": Option(
        "[0-9]{1,3}", (240, 0), lambda held, value: held.files["devices"]["timeout"] == value, "gpu"
    ),
    "nvidia-toolkit-version": Option(
        f"{_RELEASE}(-[0-9]{{1,4}})?", ("1.18.2", "9999.9999.9999-9999"), _pin, "gpu"
    ),
    "nvidia-repository-url": Option(
        "(https?|file)://[!-~]{1,500}",
        ("http://127.0.0.1:9/$(touch$IFS/tmp/pwned);%n&#", "file:///$(x)/$(ARCH)/y;"),
        _source,
        "gpu",
    ),
    "nvidia-repository-key": Option(
        r"[\s\S]*-----BEGIN PGP PUBLIC KEY BLOCK-----[\s\S]*|", (KEY, f"x\n{KEY}y", ""), _key, "gpu"
    ),
}
