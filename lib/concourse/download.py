"""Fetches one large file over HTTP: resumable, bounded in time, through the given proxies.

What was received lies in a `.part` file, with a note beside it of where it came
from, so that the next hook goes on where this one stopped.  Nothing is taken
from this process' environment: a hook's proxies come from the model.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from concourse.errors import ConcourseError
from files import ensure_dir, read_text, remove, write_file
from proxies import opener_through

Progress = Callable[[str], None]

_CHUNK = 1 << 20
_ATTEMPTS = 10  # connections in one hook, as long as each brings bytes
_HEADERS = {"User-Agent": "concourse-ci-machine", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Limits:
    """How long a download may take, in seconds.

    Attributes:
        total: for one hook; what was received until then is kept.
        stalled: for one connection or read that brings nothing.
        report: the shortest time between two progress reports (each is a process).
    """

    total: float = 1800.0
    stalled: float = 60.0
    report: float = 2.0


@dataclass(frozen=True)
class _Note:
    """What is known about a partial file: where it came from and what it will be."""

    url: str
    validator: str  # a strong ETag or a Last-Modified date; may be empty
    total: int | None


class Reporter:
    """Reports whole percents, no more often than `pause` seconds.

    Args:
        what: what is being done, such as "Downloading Concourse 8.3.0".
        progress: receives the line.
        pause: the shortest time between two lines, in seconds.
    """

    def __init__(self, what: str, progress: Progress, pause: float) -> None:
        self._what = what
        self._progress = progress
        self._pause = pause
        self._last = ""
        self._next = 0.0

    def at(self, done: int, total: int | None) -> None:
        """Report how many bytes of how many are done, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        share = f"{done * 100 // total} %" if total else f"{done // 1_000_000} MB"
        if share != self._last:
            self._last, self._next = share, now + self._pause
            self._progress(f"{self._what} ({share})")


def download(
    url: str,
    part: Path,
    *,
    label: str,
    proxies: Mapping[str, str],
    progress: Progress,
    limits: Limits = Limits(),
) -> None:
    """Make `part` hold everything that `url` serves, going on where it stopped before.

    Args:
        url: an http or https address.
        part: the file; its folder is made.
        label: what it is, for messages: "Concourse 8.3.0".
        proxies: `http_proxy`, `https_proxy` and `no_proxy`, as far as set.
        progress: receives lines such as "Downloading Concourse 8.3.0 (43 %)".
        limits: how long it may take.

    Raises:
        ConcourseError: it failed or ran out of time; what was received is kept.
    """
    ensure_dir(part.parent, 0o700)
    opener = opener_through(proxies)
    reporter = Reporter(f"Downloading {label}", progress, limits.report)
    deadline = time.monotonic() + limits.total
    problem = ""
    for _ in range(_ATTEMPTS):
        before = _size(part)
        try:
            if _attempt(opener, url, part, limits.stalled, deadline, reporter):
                return
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            raise _refused(error, url, label) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = _reason(error)
        if time.monotonic() >= deadline:
            what = f"downloading {label} did not finish within {limits.total / 60:.0f} min"
            raise ConcourseError(f"{what} ({_size(part) // 1_000_000} MB are kept)", retry=True)
        if _size(part) <= before:
            break
    raise ConcourseError(f"downloading {label} from {_host(url)} failed ({problem})", retry=True)


def fetch_text(url: str, *, label: str, proxies: Mapping[str, str], timeout: float = 60) -> str:
    """Return a small text file that `url` serves (64 KiB of it at most).

    Raises:
        ConcourseError: it could not be had.
    """
    request = urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 - http(s), see opener_through
    try:
        with opener_through(proxies).open(request, timeout=timeout) as response:
            data: bytes = response.read(65536)
    except urllib.error.HTTPError as error:
        raise _refused(error, url, label) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        what = f"downloading {label} from {_host(url)} failed ({_reason(error)})"
        raise ConcourseError(what, retry=True) from error
    return data.decode("utf-8", "replace")


def forget(part: Path) -> None:
    """Remove a partial file and the note beside it."""
    remove(_note_of(part))
    remove(part)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise ConcourseError unless `folder`'s file system has `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        missing = f"{needed / 1e9:.1f} GB needed in {folder}, {free / 1e9:.1f} GB free"
        raise ConcourseError(f"not enough space {what}: {missing}", retry=True)


def _attempt(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Path,
    stalled: float,
    deadline: float,
    reporter: Reporter,
) -> bool:
    """Make one connection; True if the file is complete after it."""
    note = _read_note(part, url)
    offset = _size(part) if note else 0
    if note and note.total and offset == note.total:
        return True
    request = urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 - http(s), see opener_through
    if note and offset:
        request.add_header("Range", f"bytes={offset}-")
        if note.validator:
            request.add_header("If-Range", note.validator)
    try:
        response = opener.open(request, timeout=stalled)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not offset:
            raise
        error.close()
        forget(part)  # the file there is shorter now than what lies here
        return _attempt(opener, url, part, stalled, deadline, reporter)
    with response:
        start, total = _extent(response)
        if start and (start != offset or (note and note.total not in (None, total))):
            if not offset:
                raise ConcourseError(f"{_host(url)} answered a part of a file, not asked for one")
            forget(part)  # the server sent another piece than asked for, or of another file
            return _attempt(opener, url, part, stalled, deadline, reporter)
        if total:
            require_space(part.parent, total - start, "for the download")
        fresh = _Note(url, _validator(response), total)
        write_file(_note_of(part), json.dumps(asdict(fresh)), mode=0o600)
        _receive(response, part, start, fresh, deadline, reporter)
    return total is None or _size(part) == total


def _receive(
    response: Any, part: Path, start: int, note: _Note, deadline: float, reporter: Reporter
) -> None:
    """Append a response's body to what is there, until it ends or the time is over."""
    with part.open("r+b" if start else "wb") as out:
        out.seek(start)
        out.truncate()
        done = start
        # read1 returns what one packet brought: a server that trickles can't hold a read open.
        while time.monotonic() < deadline and (chunk := response.read1(_CHUNK)):
            out.write(chunk)
            done += len(chunk)
            reporter.at(done, note.total)


def _extent(response: Any) -> tuple[int, int | None]:
    """Return where a response's body starts in the file, and the file's length if known.

    A start of -1 says that the server didn't say it.
    """
    if response.status == 206:
        pattern = r"bytes (\d+)-\d+/(\d+|\*)"
        if not (match := re.fullmatch(pattern, response.headers.get("Content-Range", "").strip())):
            return -1, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(response: Any) -> str:
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path, url: str) -> _Note | None:
    """Return the note beside a partial file, if it is about this address."""
    with suppress(ValueError, TypeError):
        note = _Note(**json.loads(read_text(_note_of(part)) or ""))
        if note.url == url:
            return note
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _refused(error: urllib.error.HTTPError, url: str, label: str) -> ConcourseError:
    error.close()
    what = f"{_host(url)} answered {error.code} for {label}"
    if error.code in (404, 410):
        return ConcourseError(
            what, remedy="check concourse-version and concourse-release-url", retry=True
        )
    return ConcourseError(what, retry=True)


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error) or type(error).__name__


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
