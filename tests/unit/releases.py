"""Release files, trees and servers for the tests of releases."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from concourse.download import Limits
from concourse.release import ReleaseWish, file_name
from host import Layout

ELF = b"\x7fELF" + b"\0" * 60
WRAPPER = b"#!/bin/sh\n# sets NVIDIA_VISIBLE_DEVICES\nexec runc.real\n"
MACHINE = file_name("8.3.0").rpartition("-")[2].removesuffix(".tgz")


def concourse_script(version: str) -> bytes:
    return f'#!/bin/sh\n[ "$1" = --version ] && echo {version}\n'.encode()


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def pack(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def release_members(version: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        member("concourse/", type=tarfile.DIRTYPE, mode=0o755),
        member("concourse/bin", type=tarfile.DIRTYPE, mode=0o755),
        member("concourse/bin/concourse", concourse_script(version), mode=0o755),
        member("concourse/bin/runc", ELF, mode=0o755),
        member("concourse/resource-types/git/rootfs.tgz", random.Random(1).randbytes(400_000)),
    ]


def release(version: str = "8.3.0") -> bytes:
    return pack(release_members(version))


@dataclass
class Site:
    """A web server with release files and any manners that a test wants.

    Attributes:
        files: what it serves, by path.
        cut: how many bytes of a body it sends before it hangs up, answer by answer.
        pause: seconds between two small pieces of a body; 0 sends it at once.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    lies: bool = False
    length: bool = True
    cut: list[int] = field(default_factory=list)
    pause: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    redirect: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def add(self, content: bytes, version: str = "8.3.0", machine: str = "amd64") -> str:
        path = f"/v{version}/concourse-{version}-linux-{machine}.tgz"
        self.files[path] = content
        digest = hashlib.sha1(content).hexdigest()
        self.files[f"{path}.sha1"] = f"{digest}  {path.rpartition('/')[2]}\n".encode()
        return path

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, site)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    site.requests.append((handler.path, {k.lower(): v for k, v in handler.headers.items()}))
    path = re.sub(r"^http://[^/]+", "", handler.path)
    if path in site.answers:
        handler.send_error(site.answers[path])
        return
    if site.redirect and not path.startswith("/blob"):
        handler.send_response(302)
        handler.send_header("Location", f"{site.redirect}/blob{path}")
        handler.end_headers()
        return
    content = site.files.get(path.removeprefix("/blob"))
    if content is None:
        handler.send_error(404)
        return
    start = 0
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    unchanged = handler.headers.get("If-Range", site.etag) == site.etag
    if asked and site.ranges and unchanged:
        start = int(asked[1])
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
        handler.send_response(206)
        said = start + 7 if site.lies else start
        handler.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    body = content[start:]
    if site.length:
        handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", site.etag)
    handler.end_headers()
    send(handler, body[: site.cut.pop(0)] if site.cut and ".tgz" in path[-4:] else body, site)
    handler.close_connection = True


def send(handler: BaseHTTPRequestHandler, body: bytes, site: Site) -> None:
    step = 2000 if site.pause else len(body) or 1
    try:
        for start in range(0, len(body), step):
            handler.wfile.write(body[start : start + step])
            handler.wfile.flush()
            time.sleep(site.pause)
    except OSError:
        pass  # the test hung up


def unpacked(folder: Path) -> dict[str, bytes]:
    """Return every regular file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site()) as running:
        running.add(release(), machine=MACHINE)
        yield running


@pytest.fixture
def wish(site: Site) -> ReleaseWish:
    return ReleaseWish("8.3.0", url=site.url, limits=Limits(total=20, stalled=2, report=0))


def quiet(line: str) -> None:
    pass


def part(layout: Layout) -> Path:
    return layout.state / "downloads" / f"{file_name('8.3.0')}.part"


def tree_of(layout: Layout, version: str, runc: bytes = ELF) -> Path:
    tree = layout.trees / version
    write_tree(tree, version, runc)
    return tree


def write_tree(tree: Path, version: str, runc: bytes = ELF) -> None:
    (tree / "bin").mkdir(parents=True)
    for name, content in (("concourse", concourse_script(version)), ("runc", runc)):
        (tree / "bin" / name).write_bytes(content)
        (tree / "bin" / name).chmod(0o755)
