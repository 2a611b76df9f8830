"""What the operator wants: options, resource and relations as frozen dataclasses.

An option that can't be read raises `InvalidOption` with the one sentence that
`juju status` shows.  Options about the GPU don't: their sentence is carried in
the wish, so that a slip there never keeps a worker from its CPU work.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import ops

import peers
import tsa
import turns
from certificates import Certificates
from concourse.extra_env import WORKER_MANAGED, parse
from concourse.release import ReleaseWish
from concourse.worker import MAX_TASKS, worker_name
from gpu import selection, sharing, toolkit
from gpu.manager import GpuWish
from gpu.toolkit import ToolkitWish
from host import Trouble
from options import InvalidOption, addresses, choice, number, text
from web_desired import WebSide, read_web_side
from words import shown

__all__ = ["InvalidOption", "Wish", "read", "tsa_relations"]

log = logging.getLogger(__name__)

MODES = ("auto", "all", "web", "worker")
LOG_LEVELS = ("debug", "info", "error", "fatal")
BAGGAGECLAIM_DRIVERS = ("auto", "overlay", "naive", "btrfs")
TSA_RELATION = "worker-tsa"
_URL = r"https?://[!#-&(-\[\]-~]{1,500}"  # no quotes and no backslash


@dataclass(frozen=True)
class Wish:
    """Everything that the operator wants of this unit.

    Attributes:
        app: the application's name in the model.
        mode: deployment-mode.
        roles: what this unit runs, "web", "worker" or both; empty while nobody is chosen.
        worker_name: what the worker registers as; unique, from the unit's name.
        release: which Concourse, and where it comes from.
        log_level: Concourse's.
        dns_proxy: containerd-dns-proxy-enable.
        dns_server: containerd-dns-server; "" for the machine's own.
        baggageclaim_driver: as the option says, "auto" included.
        worker_env: more variables for the worker, none that the charm sets.
        web_side: how the web is to run; None where this unit runs none.
        gpu: what is wanted of the GPUs; None with enable-gpu=false or a gpu_error.
        gpu_error: why the GPU options can't be read; "" if they can.
        related: whether there is a web to register with.
        web: what that web has published, once it is whole; None for the unit's own.
        web_error: why what it published can't be used; "" if it can.
        proxies: the model's http_proxy, https_proxy and no_proxy, those that are set.
        max_unavailable: how many workers of the application may be down at once for a change.
        waits: whether this unit has asked to be down, and it is another's turn still.
    """

    app: str
    mode: str
    worker_name: str
    release: ReleaseWish
    log_level: str
    dns_proxy: bool
    dns_server: str
    baggageclaim_driver: str
    roles: frozenset[str] = frozenset({"worker"})
    worker_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    web_side: WebSide | None = None
    gpu: GpuWish | None = None
    gpu_error: str = ""
    related: bool = False
    web: tsa.Web | None = None
    web_error: str = ""
    proxies: Mapping[str, str] = field(default_factory=dict)
    max_unavailable: int = 1
    waits: bool = False


def read(charm: ops.CharmBase, certificates: Certificates, gone: ops.Unit | None = None) -> Wish:
    """Read what the operator wants from the model.

    Args:
        charm: the charm.
        certificates: the unit's certificate.
        gone: a peer that is on its way out, which Juju may still show.

    Raises:
        InvalidOption: an option other than the GPU's can't be read.
    """
    config = charm.config
    proxies = model_proxies()
    mode = choice(config, "deployment-mode", MODES)
    roles = _roles(charm, mode, gone)
    web, web_error = _web(charm, mode) if "worker" in roles else (None, "")
    gpu, gpu_error = _gpu(config, mode, proxies) if "worker" in roles else (None, "")
    try:
        limited = gpu is not None and gpu.sharing.mode == "exclusive"
        managed = (*WORKER_MANAGED, *((MAX_TASKS,) if limited else ()))
        worker_env = parse(str(config.get("worker-env", "")), managed, "worker-env")
    except ValueError as error:
        raise InvalidOption(str(error)) from None
    return Wish(
        app=charm.app.name,
        mode=mode,
        roles=roles,
        worker_name=worker_name(charm.unit.name),
        release=_release(charm, web, proxies),
        log_level=choice(config, "log-level", LOG_LEVELS),
        dns_proxy=bool(config["containerd-dns-proxy-enable"]),
        dns_server=addresses(config, "containerd-dns-server"),
        baggageclaim_driver=choice(config, "baggageclaim-driver", BAGGAGECLAIM_DRIVERS),
        worker_env=worker_env,
        web_side=read_web_side(charm, certificates) if "web" in roles else None,
        gpu=gpu,
        gpu_error=gpu_error,
        related=mode == "all" or bool(tsa_relations(charm, mode)),
        web=web,
        web_error=web_error,
        proxies=proxies,
        max_unavailable=number(config, "max-unavailable", 1, 1000),
        waits=turns.waits(charm),
    )


def _roles(charm: ops.CharmBase, mode: str, gone: ops.Unit | None) -> frozenset[str]:
    if mode != "auto":
        return frozenset({"web", "worker"} if mode == "all" else {mode})
    chosen = peers.choose_web_unit(charm, gone)
    if not chosen:
        return frozenset()
    return frozenset({"web" if chosen == charm.unit.name else "worker"})


def model_proxies() -> dict[str, str]:
    """Return the model's proxy settings, those that are set.

    charmhelpers knows Juju's JUJU_CHARM_*_PROXY variables; it is imported here alone, and
    only where there is one, as that takes half as long as importing ops.
    On Python 3.12 and later it needs the distutils that setuptools brings.
    """
    if not any(value for name, value in os.environ.items() if name.endswith("_PROXY")):
        return {}
    if sys.version_info >= (3, 12):
        import setuptools  # noqa: F401
    from charmhelpers.core.hookenv import env_proxy_settings

    settings = env_proxy_settings(["http", "https", "no_proxy"]) or {}
    return {name: value for name, value in settings.items() if name.islower() and value}


def _release(charm: ops.CharmBase, web: tsa.Web | None, proxies: Mapping[str, str]) -> ReleaseWish:
    """The web's release where there is one: web and workers must be of one version."""
    config = charm.config
    version = text(config, "concourse-version", r"\d{1,4}\.\d{1,4}\.\d{1,4}", "a release, X.Y.Z")
    url = text(config, "concourse-release-url", _URL, "an http(s) address in ASCII")
    try:
        urlsplit(url)
    except ValueError as error:
        raise InvalidOption(f"concourse-release-url={shown(url)}: {error}") from None
    sha256 = text(config, "concourse-sha256", r"([0-9A-Fa-f]{64})?", "64 hexadecimal digits")
    if web and web.version and web.version != version:
        log.info("concourse-version=%s is ignored: the web runs %s", version, web.version)
    return ReleaseWish(
        version=(web.version if web else "") or version,
        url=url.rstrip("/"),
        sha256=sha256.lower(),
        proxies=proxies,
    )


def tsa_relations(charm: ops.CharmBase, mode: str) -> tuple[ops.Relation, ...]:
    """Return the relations over which a worker meets its web, none that is being broken."""
    name = peers.RELATION if mode == "auto" else TSA_RELATION
    return tuple(relation for relation in charm.model.relations[name] if relation.active)


def _web(charm: ops.CharmBase, mode: str) -> tuple[tsa.Web | None, str]:
    chosen = peers.web_unit(charm) if mode == "auto" else ""
    for relation in tsa_relations(charm, mode):
        try:
            return tsa.read_web(relation, chosen), ""
        except ValueError as error:
            return None, str(error)
    return None, ""


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
        share = sharing.parse(str(config["gpu-sharing"]), int(config["gpu-lease-timeout"]))
        toolkit.check(packages)
    except (ValueError, Trouble) as error:
        return None, str(error)
    return GpuWish(request, capabilities, tags, mode, packages, proxies, share), ""
