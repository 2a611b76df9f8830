"""What the operator wants: options, resource and relations as frozen dataclasses.

An option that can't be read raises `InvalidOption` with the one sentence that
`juju status` shows.  Options about the GPU don't: their sentence is carried in
the wish, so that a slip there never keeps a worker from its CPU work.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ops

import tsa
from concourse.release import ReleaseWish
from concourse.worker import worker_name
from gpu import selection, toolkit
from gpu.manager import GpuWish
from gpu.toolkit import ToolkitWish
from host import Trouble

MODES = ("auto", "all", "web", "worker")
LOG_LEVELS = ("debug", "info", "error", "fatal")
BAGGAGECLAIM_DRIVERS = ("auto", "overlay", "naive", "btrfs")
TSA_RELATION = "worker-tsa"
RESOURCE = "concourse"


class InvalidOption(ValueError):
    """An option holds something that it doesn't take; the text is the status."""


@dataclass(frozen=True)
class Wish:
    """Everything that the operator wants of this unit.

    Attributes:
        app: the application's name in the model.
        mode: deployment-mode.
        worker_name: what the worker registers as; unique, from the unit's name.
        release: which Concourse, and where it comes from.
        log_level: Concourse's.
        dns_proxy: containerd-dns-proxy-enable.
        dns_server: containerd-dns-server; "" for the machine's own.
        baggageclaim_driver: as the option says, "auto" included.
        gpu: what is wanted of the GPUs; None with enable-gpu=false or a gpu_error.
        gpu_error: why the GPU options can't be read; "" if they can.
        related: whether there is a web to register with.
        web: what that web has published, once it is whole.
        web_error: why what it published can't be used; "" if it can.
        proxies: the model's http_proxy, https_proxy and no_proxy, those that are set.
    """

    app: str
    mode: str
    worker_name: str
    release: ReleaseWish
    log_level: str
    dns_proxy: bool
    dns_server: str
    baggageclaim_driver: str
    gpu: GpuWish | None = None
    gpu_error: str = ""
    related: bool = False
    web: tsa.Web | None = None
    web_error: str = ""
    proxies: Mapping[str, str] = field(default_factory=dict)


def read(charm: ops.CharmBase) -> Wish:
    """Read what the operator wants from the model.

    Raises:
        InvalidOption: an option other than the GPU's can't be read.
    """
    config = charm.config
    proxies = model_proxies()
    mode = _choice(config, "deployment-mode", MODES)
    web, web_error = _web(charm)
    gpu, gpu_error = _gpu(config, mode, proxies)
    return Wish(
        app=charm.app.name,
        mode=mode,
        worker_name=worker_name(charm.unit.name),
        release=_release(charm, web, proxies),
        log_level=_choice(config, "log-level", LOG_LEVELS),
        dns_proxy=bool(config["containerd-dns-proxy-enable"]),
        dns_server=_addresses(config, "containerd-dns-server"),
        baggageclaim_driver=_choice(config, "baggageclaim-driver", BAGGAGECLAIM_DRIVERS),
        gpu=gpu,
        gpu_error=gpu_error,
        related=web_relation(charm) is not None,
        web=web,
        web_error=web_error,
        proxies=proxies,
    )


def model_proxies() -> dict[str, str]:
    """Return the model's proxy settings, those that are set.

    charmhelpers knows Juju's JUJU_CHARM_*_PROXY variables; it is imported here alone.
    On Python 3.12 and later it needs the distutils that setuptools brings.
    """
    if sys.version_info >= (3, 12):
        import setuptools  # noqa: F401
    from charmhelpers.core.hookenv import env_proxy_settings

    settings = env_proxy_settings(["http", "https", "no_proxy"]) or {}
    return {name: value for name, value in settings.items() if name.islower() and value}


def _release(charm: ops.CharmBase, web: tsa.Web | None, proxies: Mapping[str, str]) -> ReleaseWish:
    """The web's release where there is one: web and workers must be of one version."""
    config = charm.config
    version = _text(config, "concourse-version", r"\d{1,4}\.\d{1,4}\.\d{1,4}", "a release, X.Y.Z")
    url = _text(
        config, "concourse-release-url", r"https?://[^\s\"'\\]{1,500}", "an http(s) address"
    )
    sha256 = _text(config, "concourse-sha256", r"([0-9A-Fa-f]{64})?", "64 hexadecimal digits")
    return ReleaseWish(
        version=(web.version if web else "") or version,
        url=url.rstrip("/"),
        sha256=sha256.lower(),
        resource=_resource(charm),
        proxies=proxies,
    )


def _resource(charm: ops.CharmBase) -> Path | None:
    """Return the attached release; absent, failing or empty all mean not attached."""
    try:
        path = charm.model.resources.fetch(RESOURCE)
    except (ops.ModelError, NameError):
        return None
    return path if path.is_file() and path.stat().st_size else None


def web_relation(charm: ops.CharmBase) -> ops.Relation | None:
    """Return the relation to the web, unless it is being broken."""
    relation = charm.model.get_relation(TSA_RELATION)
    return relation if relation is not None and relation.active else None


def _web(charm: ops.CharmBase) -> tuple[tsa.Web | None, str]:
    relation = web_relation(charm)
    if relation is None:
        return None, ""
    try:
        return tsa.read_web(relation), ""
    except ValueError as error:
        return None, str(error)


def _gpu(
    config: ops.ConfigData, mode: str, proxies: Mapping[str, str]
) -> tuple[GpuWish | None, str]:
    if not config["enable-gpu"]:
        return None, ""
    tags = str(config["gpu-worker-tags"])
    packages = ToolkitWish(
        version=str(config["nvidia-toolkit-version"]).strip(),
        repository_url=str(config["nvidia-repository-url"]).strip(),
        repository_key=str(config.get("nvidia-repository-key", "")),
        proxies=proxies,
    )
    try:
        request = selection.parse(str(config["gpu-device-ids"]))
        capabilities = selection.parse_capabilities(str(config["gpu-driver-capabilities"]))
        selection.parse_tags(tags)
        toolkit.check(packages)
    except (ValueError, Trouble) as error:
        return None, str(error)
    return GpuWish(request, capabilities, tags, mode, packages, proxies), ""


def _choice(config: ops.ConfigData, option: str, allowed: tuple[str, ...]) -> str:
    value = str(config[option]).strip()
    if value in allowed:
        return value
    raise InvalidOption(f"{option}={shown(value)} is not one of: {', '.join(allowed)}")


def _text(config: ops.ConfigData, option: str, pattern: str, what: str) -> str:
    value = str(config.get(option, "")).strip()
    if re.fullmatch(pattern, value, re.ASCII):
        return value
    raise InvalidOption(f"{option}={shown(value)} is not {what}")


def _addresses(config: ops.ConfigData, option: str) -> str:
    value = str(config.get(option, "")).replace(" ", "")
    try:
        for address in value.split(",") if value else ():
            ipaddress.ip_address(address)
    except ValueError:
        raise InvalidOption(f"{option}={shown(value)} is not a list of IP addresses") from None
    return value


def shown(value: str) -> str:
    """Return an operator's value as one short printable word for a status."""
    return repr(value if len(value) <= 40 else f"{value[:40]}…")
