"""apt: every call bounded, every failure a sentence that says what to do.

Refreshing lists may take 120 s and a download 300 s; both can be killed at any point
and go on where they stopped.  Unpacking is a call of its own, after everything was
fetched, so that no time limit set for a slow mirror cuts dpkg in half.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from files import remove
from gpu.dpkg import ENV, LOCK_LIMIT, UNPACK_LIMIT, ensure_mended, wait_for_locks
from gpu.errors import GpuError, NotNowError
from host import CommandError, Completed, Layout, run

log = logging.getLogger(__name__)

UPDATE_LIMIT = 120.0
DOWNLOAD_LIMIT = 300.0
_QUERY_LIMIT = 60.0

_OPTIONS = (
    "-q",
    "-y",
    "-o",
    f"DPkg::Lock::Timeout={LOCK_LIMIT:g}",
    "-o",
    "Dpkg::Use-Pty=0",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Acquire::Retries=2",
    "-o",
    "Acquire::http::Timeout=30",
    "-o",
    "Acquire::https::Timeout=30",
    "-o",
    "Acquire::Progress::Ignore::ShowErrorText=true",  # why it tries something again
)
# What apt-get tried again, or went on without, and why.
_IGNORED = re.compile(r"^Ign:.*\n(?: .*\n)*", re.MULTILINE)
# What a failed apt-get says when newer package lists may be all that is missing.
_STALE = re.compile(
    r"Unable to locate|unmet dependencies|no installation candidate|404 +Not Found"
    r"|Unable to fetch|was not found|Hash Sum mismatch|File not found"
)


def update(layout: Layout, proxies: Mapping[str, str], *, only: Path | None = None) -> None:
    """Fetch package lists, of one source file or of all.

    Args:
        layout: where everything lies.
        proxies: http_proxy, https_proxy, no_proxy; they go in the environment.
        only: the source file; the lists of all others stay as they are, which takes a
            second instead of a minute and doesn't depend on their servers.

    Raises:
        GpuError: some of it failed; what was there before is still usable.
    """
    argv = [layout.program("apt-get"), "update", *_OPTIONS, "-o", "APT::Update::Error-Mode=any"]
    if only is not None:
        argv += ["-o", f"Dir::Etc::sourcelist={only}", "-o", "Dir::Etc::sourceparts=/dev/null"]
        argv += ["-o", "APT::Get::List-Cleanup=0", "-o", "Acquire::Languages=none"]
    wait_for_locks(layout)
    _apt(argv, UPDATE_LIMIT, proxies, "apt-get update")


def lists(layout: Layout, address: str) -> list[Path]:
    """Return the files that apt has fetched from a repository; its address ends in no slash."""
    bare = re.sub(r"^[a-z]+:/*", "/" if address.startswith("file:") else "", address)
    quoted = re.sub(r"[\\|{}\[\]<>\"^~_=!@#$%^&*]", lambda sign: f"%{ord(sign[0]):02x}", bare)
    prefix = quoted.replace("/", "_") + "_"
    files = layout.at("/var/lib/apt/lists").glob("*")
    return [file for file in files if file.name.startswith(prefix)]


def offered(layout: Layout, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the versions of each package that the fetched lists offer, newest first."""
    argv = [layout.program("apt-cache"), "madison", *names]
    done = _apt(argv, _QUERY_LIMIT, {}, "apt-cache madison", check=False)
    versions: dict[str, dict[str, None]] = {name: {} for name in names}
    for line in done.stdout.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and fields[0] in versions:
            versions[fields[0]][fields[1]] = None
    return {name: tuple(found) for name, found in versions.items()}


def plan(layout: Layout, specs: Sequence[str]) -> dict[str, str]:
    """Return package and version of everything that installing `specs` would put there."""
    argv = [layout.program("apt-get"), "install", "-s", *_OPTIONS]
    done = _apt([*argv, "--no-install-recommends", *specs], _QUERY_LIMIT, {}, "apt-get install -s")
    found = re.findall(r"^Inst (\S+) (?:\[\S*\] )?\((\S+)", done.stdout, re.MULTILINE)
    return {name.partition(":")[0]: version for name, version in found}


def install(
    layout: Layout,
    specs: Sequence[str],
    proxies: Mapping[str, str],
    *,
    downgrade: bool = False,
    again: bool = False,
) -> None:
    """Install packages, removing none; fresh lists are fetched if the first try needs them.

    Args:
        layout: where everything lies.
        specs: names, or name=version.
        proxies: http_proxy, https_proxy, no_proxy; they go in the environment.
        downgrade: whether a version may go down.
        again: whether what is installed in that version is unpacked once more.

    Raises:
        GpuError: it didn't work; what failed, and what the operator can do.
    """
    ensure_mended(layout)
    argv = [layout.program("apt-get"), "install", *_OPTIONS]
    argv += ["--no-install-recommends", "--no-remove"]
    argv += ["--allow-downgrades"] if downgrade else []
    argv += ["--reinstall"] if again else []
    fetch = [*argv, "--download-only", *specs]
    what = f"installing {specs[0].replace('=', ' ')}"
    before = _archives(layout)
    wait_for_locks(layout)
    try:
        _apt(fetch, DOWNLOAD_LIMIT, proxies, what)
    except _StaleListsError as first:
        try:
            update(layout, proxies)
        except GpuError as error:
            log.warning("%s; going on with the lists that are here", error)
        try:
            _apt(fetch, DOWNLOAD_LIMIT, proxies, what)
        except GpuError:
            raise first from None
    # All archives are here by now, so this call fetches nothing.  (apt-get's --no-download
    # would say so, but fails with file: repositories: "not absolute", apt 2.6.1.)
    wait_for_locks(layout)
    _apt([*argv, *specs], UNPACK_LIMIT, proxies, what)
    # APT::Keep-Downloaded-Packages=false would spare these: an earlier call fetched them.
    for archive in _archives(layout) - before:
        remove(archive)


def _archives(layout: Layout) -> set[Path]:
    """Return the packages that apt has downloaded and kept."""
    return set(layout.at("/var/cache/apt/archives").glob("*.deb"))


class _StaleListsError(GpuError):
    """apt-get failed in a way that newer lists may cure."""


def _apt(
    argv: Sequence[str],
    limit: float,
    proxies: Mapping[str, str],
    what: str,
    *,
    check: bool = True,
) -> Completed:
    env = {**ENV, **{name: value for name, value in proxies.items() if value}}
    try:
        return run(argv, timeout=limit, env=env, check=check)
    except CommandError as error:
        log.debug("%s: %s", what, _masked(error.output))
        raise explain(error, what) from error


# Text of apt -> (what it means, what the operator can do, whether a retry alone can help).
_MEANINGS = (
    (r"Could not get lock|Unable to acquire the dpkg frontend lock", "apt is in use", "", True),
    (
        r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|Missing key|invalid signature",
        "the key doesn't fit the repository's signature",
        "set nvidia-repository-key to the key of nvidia-repository-url",
        False,
    ),
    (
        r"Conflicting values set for option Signed-By",
        "two apt sources name one repository with different keys",
        "remove one of them from /etc/apt/sources.list.d",
        False,
    ),
    (
        (
            r"Could not resolve|failure resolving|Could not connect|Connection failed"
            r"|Connection timed out|Unable to connect|Network is unreachable|Connection refused"
            r"|Cannot initiate"
        ),
        "the repository can't be reached",
        "check the network and the model's proxies, or set a mirror",
        True,
    ),
    (
        r"No space left on device|You don't have enough free space",
        "the disk is full",
        "free some space",
        True,
    ),
    (
        r"is not valid yet|is expired \(invalid since",
        "the repository is of another time than this machine's clock",
        "compare timedatectl",
        True,
    ),
    (
        r"is corrupt|Hash Sum mismatch|File has unexpected size|unexpected end of file",
        "the repository gives a damaged file",
        "renew the mirror",
        True,
    ),
    (
        r"Held packages were changed|held broken packages",
        "held packages stand in the way",
        "see apt-mark showhold",
        False,
    ),
    (
        r"Packages need to be removed but remove is disabled",
        "other packages would have to be removed",
        "remove them by hand: the charm removes none",
        False,
    ),
    (
        r"Packages were downgraded",
        "newer versions are installed already",
        "downgrade or remove them by hand",
        False,
    ),
)


def explain(error: CommandError, what: str) -> GpuError:
    """Say in one sentence why a command of apt failed and what the operator can do."""
    if error.timed_out:
        return _explain_limit(error, what)
    said = _IGNORED.sub("", error.output)
    kind = _StaleListsError if _STALE.search(said) else GpuError
    for pattern, meaning, remedy, retry in _MEANINGS:
        if re.search(pattern, said):
            return kind(f"{what} failed, {meaning}", retry=retry, remedy=remedy)
    broken = re.search(r"Errors were encountered while processing:\s+(\S+)", said)
    if broken:
        remedy = "see sudo dpkg --configure -a"
        return kind(f"{what} failed, dpkg can't finish {broken[1]}", retry=True, remedy=remedy)
    return kind(f"{what} failed: {_last(said) or error.what}", retry=True)


def _explain_limit(error: CommandError, what: str) -> GpuError:
    """Say that a time limit was reached, and what apt tried again until then, if anything."""
    late = f"{what} {error.what.partition(' ')[2]}"
    tried = "".join(_IGNORED.findall(error.output))
    for pattern, meaning, remedy, retry in _MEANINGS:
        if retry and re.search(pattern, tried):
            return NotNowError(f"{late}, {meaning}", retry=True, remedy=remedy)
    return NotNowError(late, retry=True)


def _last(output: str) -> str:
    """Return the line that says why: the last error line, else the last line."""
    lines = [line.strip() for line in _masked(output).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E: ", "dpkg: error", "Err:"))]
    return (errors or lines or [""])[-1].removeprefix("E: ")[:200]


def _masked(output: str) -> str:
    """Hide the credentials of a proxy's or a mirror's address."""
    return re.sub(r"://[^/@\s]+@", "://…@", output)
