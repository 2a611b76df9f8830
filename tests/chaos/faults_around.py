"""The faults around a machine: mirrors, names, the clock, and where Concourse comes from."""

from __future__ import annotations

from rehearsal.standins import packages
from tests.chaos import causes, mirrors
from tests.chaos.causes import both, nothing, shell
from tests.chaos.clocks import YEARS, off
from tests.chaos.fault import ACTIVE, BLOCKED, HOOK, INSTALLS, READY, WAITING, Fault, bare
from tests.chaos.mirrors import PORT, damaged, dripping_for, garbled, served, shortened
from tests.chaos.scaled import DOWNLOAD, KEY, RELEASE, SILENCE, UPDATE

_SLOW = f"127.0.0.1:{PORT}"
_NOWHERE = "127.0.0.1:9"
_NO_KEY = {"nvidia-repository-key": ""}
_RETRIED = r" \(will be retried\)"
_UNREACHABLE = ".*the repository can't be reached: check the network and the model's proxies.*"
_DAMAGED = rf".*the repository gives a damaged file: renew the mirror{_RETRIED}"
_UNRESOLVED = r"\[Errno -3\] Temporary failure in name resolution"


def _from(host: str) -> dict[str, object]:
    """Return the option that leads to another mirror of NVIDIA's."""
    return {"nvidia-repository-url": f"http://{host}/stable/deb"}


def _keyless(host: str, why: str = ".*") -> str:
    """Return what is said where a mirror gives no key, and NVIDIA's own place none either."""
    return rf"http://{host}/gpgkey can't be had \({why}\): check the network .*{_RETRIED}"


def _direct(host: str) -> causes.Cause:
    """Have apt ask for a host itself; on this machine it asks a proxy for what isn't local."""
    rule = "/etc/apt/apt.conf.d/99x"
    return shell(f"echo 'Acquire::http::Proxy::{host} \"DIRECT\";' >{rule}", f"rm {rule}")


MIRRORS = (
    bare("mirror unreachable", WAITING, _UNREACHABLE, nothing, _from(_NOWHERE)),
    bare(
        "mirror unreachable, no key",
        WAITING,
        _keyless(_NOWHERE),
        nothing,
        _from(_NOWHERE) | _NO_KEY,
    ),
    bare(
        "mirror drips",
        WAITING,
        rf"apt-get update did not finish within {UPDATE:g} s{_RETRIED}",
        served(mirrors.dripping),
        _from(_SLOW),
        limit=UPDATE + INSTALLS,
    ),
    bare(
        "mirror drips a package",
        WAITING,
        rf"installing nvidia-container-toolkit 1\.20\.0-1 did not finish within {DOWNLOAD:g} s"
        rf"{_RETRIED}",
        served(dripping_for("*.deb")),
        {"nvidia-repository-url": f"http://{_SLOW}/{packages.TOOLKIT}"},
        limit=DOWNLOAD + INSTALLS,
    ),
    bare(
        "mirror drips a key",
        WAITING,
        rf"http://{_SLOW}/gpgkey (can't be had|did not arrive within) .*",
        served(mirrors.dripping),
        _from(_SLOW) | _NO_KEY,
        limit=2 * (KEY + SILENCE) + HOOK,
    ),
    bare(
        "mirror is silent",
        WAITING,
        rf"{_UNREACHABLE}|apt-get update did not finish within {UPDATE:g} s.*",
        served(mirrors.silent),
        _from(_SLOW),
        limit=UPDATE + INSTALLS,
    ),
    bare(
        "wrong key",
        BLOCKED,
        r".*the key doesn't fit the repository's signature: set nvidia-repository-"
        "key to the key of nvidia-repository-url",
        nothing,
        {"nvidia-repository-key": "@"},
    ),
    bare(
        "truncated deb",
        WAITING,
        _DAMAGED,
        damaged("*toolkit-base_1.20.0*.deb", shortened),
    ),
    bare("wrong checksum", WAITING, _DAMAGED, damaged("*toolkit-base_1.20.0*.deb", garbled)),
    bare(
        "lying list",
        WAITING,
        _DAMAGED,
        damaged("stable/deb/*/Packages*", lambda content: content + b"\n"),
    ),
)
NAMES = (
    bare("no DNS", WAITING, _UNREACHABLE, _direct("mirror.invalid"), _from("mirror.invalid")),
    bare(
        "DNS swallows what apt asks",
        WAITING,
        _UNREACHABLE,
        both(_direct("mirror.example"), mirrors.questions_are_swallowed),
        _from("mirror.example"),
        limit=UPDATE + INSTALLS,
    ),
    bare(
        "DNS swallows the key's name",
        WAITING,
        _keyless("mirror.example", _UNRESOLVED),
        mirrors.questions_are_swallowed,
        _from("mirror.example") | _NO_KEY,
    ),
)
CLOCK = (
    Fault("clock far behind, nothing to do", ACTIVE, READY, off(-YEARS)),
    Fault("clock far ahead, nothing to do", ACTIVE, READY, off(YEARS)),
    bare(
        "clock far behind, set-up",
        WAITING,
        f".*of another time than this machine's clock: compare timedatectl{_RETRIED}",
        off(-YEARS),
        unasked=True,
    ),
    Fault(
        "clock far ahead, set-up",
        ACTIVE,
        READY,
        off(YEARS),
        bare=True,
        limit=INSTALLS,
        unasked=True,
    ),
    bare(
        "clock far ahead, set-up fails",
        WAITING,
        _DAMAGED,
        both(off(YEARS), damaged("*toolkit-base_1.20.0*.deb", garbled)),
        unasked=True,
    ),
)


def _release(name: str, why: str, cause: causes.Cause, url: str = "", limit: float = HOOK) -> Fault:
    """Return a fault in the way of the release that the related web runs now."""
    options = {"@version": "8.3.1", **({"concourse-release-url": url} if url else {})}
    said = rf"Concourse 8\.3\.0 runs on, 8\.3\.1 failed: {why}{_RETRIED}"
    return Fault(name, WAITING, said, cause, options, limit=limit)


_LOADING = r"downloading Concourse 8\.3\.1"
_OTHER_SUM = r"concourse-8\.3\.1-linux-\w+\.tgz has the sha1 \w+, not \w+"
RELEASES = (
    _release("release mirror unreachable", f"{_LOADING} .*", nothing, f"http://{_NOWHERE}"),
    _release(
        "release mirror is silent",
        rf"{_LOADING} from 127\.0\.0\.1 failed \(.*timed out.*\)",
        served(mirrors.silent),
        f"http://{_SLOW}",
        limit=SILENCE + HOOK,
    ),
    _release(
        "release mirror drips",
        rf"{_LOADING} did not finish within \d+ min \(\d+ MB are kept\)",
        served(dripping_for("*.tgz")),
        f"http://{_SLOW}/releases",
        limit=RELEASE + HOOK,
    ),
    _release(
        "release mirror's name is swallowed by DNS",
        rf"{_LOADING} from releases\.example failed \({_UNRESOLVED}\)",
        mirrors.questions_are_swallowed,
        "http://releases.example",
    ),
    _release("release truncated", _OTHER_SUM, damaged("concourse-8.3.1-*.tgz", shortened)),
    _release(
        "release with another checksum", _OTHER_SUM, damaged("concourse-8.3.1-*.tgz", garbled)
    ),
    _release(
        "full disk, another release", "not enough space for the download: .*", causes.full_disk
    ),
)
FAULTS = (*MIRRORS, *NAMES, *CLOCK, *RELEASES)
