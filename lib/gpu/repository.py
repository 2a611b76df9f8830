"""The apt repository of NVIDIA's container toolkit: its source, its key, the version pin.

Two sources that give one address different Signed-By values break every apt-get update
on the machine.  So a source that is there for the same address is used as it is, and the
charm's own one names the key file that NVIDIA's guide names, which a hand-made source
would name too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from files import read_text, remove, write_file
from gpu import apt
from gpu.download import fetch
from gpu.errors import GpuError
from gpu.openpgp import read_keys
from host import Layout

log = logging.getLogger(__name__)

# NVIDIA container toolkit, installation guide (2025): the key, and where it lies.
NVIDIA_KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
NVIDIA_KEY_URL = "https://nvidia.github.io/libnvidia-container/gpgkey"
KEYRING = "/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg"
OWN_KEYRING = "/usr/share/keyrings/concourse-ci-machine-nvidia.gpg"
SOURCE = "/etc/apt/sources.list.d/concourse-ci-machine-nvidia.sources"
PINS = "/etc/apt/preferences.d/concourse-ci-machine-nvidia"
DRIVER_PINS = "/etc/apt/preferences.d/concourse-ci-machine-nvidia-driver"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_HEADER = "# Made by the charm concourse-ci-machine, which overwrites changes.\n"
_OPTION = "nvidia-repository-url"


@dataclass(frozen=True)
class Source:
    """One enabled deb entry of apt's sources.

    Attributes:
        file: where it is written.
        address: its repository, normalised.
        text: the whole entry.
    """

    file: Path
    address: str
    text: str


def check_url(url: str) -> str:
    """Return the address of the flat repository for this machine's architecture.

    Args:
        url: the option nvidia-repository-url, without the architecture.

    Raises:
        GpuError: it is no such address; one sentence that names the option.
    """
    try:
        parts = urlsplit(url if re.fullmatch(r"[!-~]{1,500}", url) else "")
        place = parts.path if parts.scheme == "file" else parts.hostname
    except ValueError:  # half an IPv6 address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https", "file") or not place:
        raise GpuError(f"{_OPTION} is no http, https or file address")
    if parts.username or parts.password:
        raise GpuError(
            f"{_OPTION} holds a user name or password",
            remedy="put them into /etc/apt/auth.conf.d on the machine",
        )
    # apt takes a per cent sign of a file's path for one of printf's (2.6.1, methods/file).
    unfit = r"[][\"'`\\<>|{}^%]" if parts.scheme == "file" else r"[][\"'`\\<>|{}^]"
    if parts.query or parts.fragment or re.search(unfit, url):
        raise GpuError(f"{_OPTION} holds characters that no apt source can have")
    return url if "$(ARCH)" in url else url.rstrip("/") + "/$(ARCH)"


def check_key(key: str) -> bytes:
    """Return the option nvidia-repository-key in binary form; nothing if it is empty.

    Raises:
        GpuError: it is no public key; one sentence that names the option.
    """
    if not key.strip():
        return b""
    try:
        binary, _ = read_keys(key.strip().encode())
    except ValueError as error:
        raise GpuError(f"nvidia-repository-key can't be used: {error}") from None
    return binary


def ensure_source(layout: Layout, url: str, key: str, proxies: Mapping[str, str]) -> Path:
    """Make apt know the repository, and return the file that says so.

    Args:
        layout: where everything lies.
        url: the option nvidia-repository-url.
        key: the option nvidia-repository-key, armoured; empty for NVIDIA's own.
        proxies: http_proxy, https_proxy, no_proxy, for fetching NVIDIA's key.

    Raises:
        GpuError: an option is wrong, or the key can't be had or isn't NVIDIA's.
    """
    address = check_url(url)
    own = layout.at(SOURCE)
    for source in _sources(layout):
        if source.file != own and source.address == _normal(address):
            remove(own)
            return source.file
    keyring = _ensure_key(layout, url, key, proxies)
    text = f"{_HEADER}Types: deb\nURIs: {address}/\nSuites: /\nSigned-By: {keyring}\n"
    _remember(layout, SOURCE, text.encode())
    write_file(own, text)
    return own


def ensure_pin(layout: Layout, path: str, packages: Sequence[str], version: str) -> bool:
    """Make apt prefer one version of some packages; True if anything changed.

    The priority stays below 1000: apt upgrades no further by itself, and takes nobody's
    newer version away (apt_preferences(5)); the charm asks for a downgrade by name.

    Args:
        layout: where everything lies.
        path: the file, PINS or DRIVER_PINS.
        packages: their names.
        version: the version, with apt's wildcards.
    """
    names = " ".join(packages)
    text = f"{_HEADER}Package: {names}\nPin: version {version}\nPin-Priority: 999\n"
    _remember(layout, path, text.encode())
    return write_file(layout.at(path), text)


def undo(layout: Layout) -> bool:
    """Remove the source, the pins and the key that the charm made; True if there were any.

    A key that somebody else's source has come to use meanwhile, or that was replaced, stays.
    """
    made = _made(layout)
    addresses = {source.address for source in _sources(layout) if source.file == layout.at(SOURCE)}
    for path in (SOURCE, PINS, DRIVER_PINS):
        if path in made:
            remove(layout.at(path))
    for file in [file for address in addresses for file in apt.lists(layout, address)]:
        remove(file)  # apt has the repository no longer
    for path in (KEYRING, OWN_KEYRING):
        used = any(path in source.text for source in _sources(layout))
        if path in made and not used and _is_ours(layout, path):
            remove(layout.at(path))
    return remove(_memory(layout))


def _ensure_key(layout: Layout, url: str, key: str, proxies: Mapping[str, str]) -> str:
    """Put the key where apt finds it, and return that path."""
    given = check_key(key)
    if given:
        return _write_key(layout, given)
    for path in (KEYRING, OWN_KEYRING):
        if _is_nvidias(layout, path):
            return path
    return _write_key(layout, _download_key(url, proxies))


def _write_key(layout: Layout, binary: bytes) -> str:
    """Write a key in the usual place, or beside what somebody else has put there."""
    usual = layout.at(KEYRING)
    path = KEYRING
    if usual.exists() and not _is_ours(layout, KEYRING):
        if usual.read_bytes() == binary:
            return KEYRING
        path = OWN_KEYRING
    _remember(layout, path, binary)
    write_file(layout.at(path), binary)
    return path


def _download_key(url: str, proxies: Mapping[str, str]) -> bytes:
    """Fetch NVIDIA's key from beside the repository, or else from NVIDIA."""
    beside = re.sub(r"/stable/deb(/.*)?$", "/gpgkey", url.rstrip("/"))
    places = dict.fromkeys(place for place in (beside, NVIDIA_KEY_URL) if place.endswith("/gpgkey"))
    troubles = []
    for place in places:
        try:
            return _nvidias_key(place, proxies)
        except GpuError as error:
            troubles.append(error)
    raise troubles[0]  # of a mirror its own address, which its operator can do something about


def _nvidias_key(place: str, proxies: Mapping[str, str]) -> bytes:
    try:
        binary, fingerprints = read_keys(fetch(place, proxies))
    except ValueError as error:
        raise GpuError(f"{place} is no public key: {error}", retry=True) from None
    if fingerprints == (NVIDIA_KEY,):  # exactly this one: a second one would be trusted as well
        return binary
    raise GpuError(
        f"the key at {place} isn't NVIDIA's ({', '.join(fingerprints)})",
        remedy="give the mirror's key as nvidia-repository-key",
    )


def _is_nvidias(layout: Layout, path: str) -> bool:
    try:
        _, fingerprints = read_keys(layout.at(path).read_bytes())
    except (OSError, ValueError):
        return False
    return fingerprints == (NVIDIA_KEY,)


def _sources(layout: Layout) -> Iterator[Source]:
    """Yield the enabled deb entries of sources.list and sources.list.d (sources.list(5))."""
    folder = layout.at("/etc/apt/sources.list.d")
    for file in (layout.at("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))):
        for line in (read_text(file) or "").splitlines():
            entry = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)", line)
            if entry:
                yield Source(file, _normal(entry[1]), line)
    for file in sorted(folder.glob("*.sources")):
        for stanza in re.split(r"\n[ \t]*(?:\n[ \t]*)+", (read_text(file) or "") + "\n"):
            fields = _fields(stanza)
            if fields.get("enabled", "yes").lower() in ("no", "false", "without", "off", "disable"):
                continue
            if "deb" in fields.get("types", "").split():
                for uri in fields.get("uris", "").split():
                    yield Source(file, _normal(uri), stanza)


def _fields(stanza: str) -> dict[str, str]:
    """Read one deb822 stanza: field names in lower case, continued lines joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
            continue
        name, _, value = line.partition(":")
        name = name.strip().lower()
        fields[name] = value.strip()
    return fields


def _normal(uri: str) -> str:
    """Write an address as apt compares it: this architecture, no slash at the end."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return re.sub(r"\$\((NATIVE_)?ARCH(ITECTURE)?\)", architecture, uri).rstrip("/")


def is_listed(layout: Layout, url: str, source: Path) -> bool:
    """Return whether apt has fetched the repository's list since its source and key are as now."""
    places = [source, *(layout.at(path) for path in (KEYRING, OWN_KEYRING))]
    since = max((place.stat().st_ctime_ns for place in places if place.exists()), default=0)
    lists = apt.lists(layout, _normal(check_url(url)))
    return any("Packages" in file.name and file.stat().st_ctime_ns > since for file in lists)


def _memory(layout: Layout) -> Path:
    return layout.state / "gpu/repository.json"


def _made(layout: Layout) -> dict[str, list[str]]:
    """Return the files that the charm made, each with the checksums of what it wrote there."""
    try:
        stored = json.loads(read_text(_memory(layout)) or "{}")
        return {str(path): [str(sum_) for sum_ in sums] for path, sums in stored.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _remember(layout: Layout, path: str, content: bytes) -> None:
    """Write down, before the file itself is written, that it is the charm's."""
    made = _made(layout)
    sums = made.get(path, [])
    current = hashlib.sha256(content).hexdigest()
    if sums[-1:] == [current]:
        return
    made[path] = [*(known for known in sums if known != current), current][-4:]
    write_file(_memory(layout), json.dumps(made, indent=1, sort_keys=True) + "\n", mode=0o600)


def _is_ours(layout: Layout, path: str) -> bool:
    try:
        content = layout.at(path).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() in _made(layout).get(path, [])
