"""Coverage-guided fuzzing (Atheris) of what reads text that others wrote.

    python -m tests.chaos.fuzzing TARGET TALLY [options of libFuzzer, folders of inputs]

Each target takes bytes and raises only if a promise is broken; what it refuses by the
exception that its docstring names is well.  What its readers took and refused is counted into the
file TALLY.  libFuzzer's limits hold time and memory.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

# Two libraries are followed as well, for the target that reads by them: it takes a while to begin.
with atheris.instrument_imports(
    include=[
        *("concourse", "gpu", "conninfo", "database_fields"),
        *{"config_toml": ["tomlkit"], "release_file": ["tarfile"]}.get(sys.argv[1], []),
    ]
):
    import conninfo
    import database_fields
    from concourse import archive, authorized, environment, extra_env, keys, web_keys
    from concourse.errors import ConcourseError
    from gpu import openpgp, repository, selection, smi, toml_edit, versions
    from host import Completed, Layout
from tests.chaos.fuzzing_tally import tally
from tests.chaos.fuzzing_tars import tarball
from tests.unit.systemd_env import read_environment_file
from tests.unit.webs import pem

Target = Callable[[bytes], None]


def _text(data: bytes) -> str:
    return data.decode(errors="replace").replace("\0", "")


def web_env(data: bytes) -> None:
    """A variable that is taken comes out of systemd as it went in, or ValueError, printable."""
    try:
        found = extra_env.parse(_text(data), extra_env.WORKER_MANAGED)
    except ValueError as error:
        tally.count("variables", taken=False)
        said = str(error)
        if not said.isprintable():
            raise AssertionError(said) from error
        return
    if found:
        tally.count("variables", taken=True)
    text = "".join(f"{name}={environment.quoted(value)}\n" for name, value in found.items())
    assert read_environment_file(text) == found
    assert environment.parse(text) == found
    assert all(re.fullmatch(r"CONCOURSE_[A-Z0-9_]+", name) for name in found)


def user_secret(data: bytes) -> None:
    """The same for a secret; a refusal (ValueError) never holds a value."""
    key, _, value = _text(data).partition("\n")
    try:
        found = extra_env.secret_env({key: value}, ())
    except ValueError as error:
        tally.count("secret", taken=False)
        said = str(error)
        if len(value) >= 24 and value not in key and value in said:
            raise AssertionError(said) from error
        return
    tally.count("secret", taken=True)
    text = "".join(f"{name}={environment.quoted(each)}\n" for name, each in found.items())
    assert read_environment_file(text) == found


def connection(data: bytes) -> None:
    """A connection string is read, and read again as it is quoted, or refused by ValueError."""
    found = tally.read("connection string", lambda: conninfo.parse(_text(data)), ValueError)
    if found and all(re.fullmatch(r"[^\s=']+", key) for key in found):
        quoted = (re.sub(r"(['\\])", r"\\\1", value) for value in found.values())
        pairs = (f"{key}='{value}'" for key, value in zip(found, quoted, strict=True))
        assert conninfo.parse(" " + " ".join(pairs)) == found, found  # the space: no URI


def database_text(data: bytes) -> None:
    """A field of a database fits on one line of an environment file, or is Malformed."""
    text = _text(data)
    readers: tuple[Callable[[str, str], str | int], ...]
    readers = (database_fields.host, database_fields.port, database_fields.text)
    for read in readers:
        try:
            found = str(read("x", text))
        except database_fields.Malformed:
            tally.count(f"database {read.__name__}", taken=False)
            continue
        tally.count(f"database {read.__name__}", taken=True)
        assert environment.parse(f"X={environment.quoted(found)}\n") == {"X": found}


def certificates(data: bytes) -> None:
    """Certificates are PEM and nothing else, and read again as they are, or Malformed."""
    read = database_fields.certificates
    found = tally.read("certificates", lambda: read("x", _text(data)), database_fields.Malformed)
    if found:
        assert read("x", found) == found
        line = re.compile(r"-----(BEGIN|END) CERTIFICATE-----|[A-Za-z0-9+/=\s]*")
        assert all(line.fullmatch(each) for each in found.splitlines()), found


def worker_key(data: bytes) -> None:
    """A key that is let in is one line of a type, base64 and, behind it, a name."""
    text = _text(data)
    if data[:3] == b"\0\0\0":  # a key's inside, which begins with the length of its type
        text = f"{_text(data[4 : 4 + data[3]])} {b64encode(data).decode()}" if data[3:] else ""
    good, refused = authorized._sorted_out({"worker-0": text, text[:200]: text})
    tally.count("worker's key", taken=bool(good))
    for name, key in good.items():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name)
        assert re.fullmatch(r"(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/=]+", key), key
    assert all(name.isprintable() for name in refused)


def host_key(data: bytes) -> None:
    """A private key gives a public line that workers take, or ConcourseError."""
    text = pem(data) if data[:1] == b"\x30" else _text(data)  # DER begins so, or it is the PEM
    line = tally.read("host key", lambda: web_keys.public_host_key(text), ConcourseError)
    assert line is None or (line.startswith("ssh-rsa ") and keys.is_public_key(line)), line


def repository_key(data: bytes) -> None:
    """A key is read, and what apt gets is it and no armour, or refused by ValueError."""
    found = tally.read("repository key", lambda: openpgp.read_keys(data), ValueError)
    if found:
        assert all(re.fullmatch(r"[0-9A-F]{40,64}", each) for each in found[1])
        assert openpgp.read_keys(found[0]) == found


def nvidia_smi(data: bytes) -> None:
    """Whatever it prints, a GPU has a UUID, and all else is short and printable."""
    text = _text(data)
    answer = smi._read(Completed(("nvidia-smi",), 0, text, ""))
    tally.count("GPUs", taken=bool(answer.gpus))
    for line in (answer.error, *(gpu.name for gpu in answer.gpus)):
        assert line.isprintable()
        assert len(line) <= 120
    for gpu in smi._with_mig(answer.gpus, text):
        assert re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", gpu.uuid)
        if gpu.mig_on:
            tally.count("MIG devices", taken=bool(gpu.mig))
        for mig in gpu.mig:
            assert re.fullmatch(r"MIG-[0-9a-fGPU/-]{36,60}", mig.uuid), mig
            assert re.fullmatch(r"[0-9]{1,3}:[0-9]{1,3}", mig.id), mig
            assert mig.name.isprintable(), mig
            assert len(mig.name) <= 120, mig


def choices(data: bytes) -> None:
    """A list of devices, capabilities or tags holds nothing that a table or a list could split."""
    text = _text(data)
    asked = tally.read("devices", lambda: selection.parse(text), ValueError)
    if asked:
        assert all(re.fullmatch(r"[A-Za-z0-9:/-]+", one) for one in asked.wanted)
    listed = tally.read("capabilities", lambda: selection.parse_capabilities(text), ValueError)
    assert listed is None or re.fullmatch(r"[a-z0-9,]+", listed)
    tags = tally.read("tags", lambda: selection.parse_tags(text), ValueError)
    assert not tags or all(re.fullmatch(r"[!-+.-~-]+", tag) for tag in tags)


def config_toml(data: bytes) -> None:
    """A file that can be read keeps all its values but the one that is set."""
    text = _text(data)
    refusals = (ValueError, toml_edit.TOMLKitError, RecursionError)
    before = tally.read("TOML", lambda: toml_edit.values_of(text), *refusals)
    path = ("nvidia-container-runtime", "runtimes")
    if before is None or not isinstance(before.get(path[0], {}), dict):
        return
    after = toml_edit.values_of(toml_edit.edited(text, {path: ["/x/runc"]}))
    before.setdefault(path[0], {})[path[1]] = ["/x/runc"]
    assert _plain(after) == _plain(before)


def _plain(values: dict[str, Any]) -> str:
    """Return values as a text that can be compared: no number is nobody's equal."""
    return json.dumps(values, sort_keys=True, default=str)


def apt_source(data: bytes) -> None:
    """Other people's sources are read without a word, and an address is one word."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        folder = Path(root, "etc/apt/sources.list.d")
        folder.mkdir(parents=True)
        for file in (folder.with_name("sources.list"), folder / "x.sources"):
            file.write_bytes(data)
        found = list(repository._sources(Layout(Path(root))))
    tally.count("apt sources", taken=bool(found))
    assert not any(re.search(r"\s", source.address) for source in found), found


def package_versions(data: bytes) -> None:
    """An order has no circle."""
    one, _, other = _text(data).partition("\n")
    before, behind = versions.older(one, other), versions.older(other, one)
    tally.count("an older version", taken=before or behind)
    assert not (before and behind)
    assert not versions.older(one, one)


def release_file(data: bytes) -> None:
    """A tarball is unpacked below its folder, or refused by ConcourseError in a short line."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        place = Path(folder)
        (place / "out").write_bytes(b"as it was")
        (place / "x.tgz").write_bytes(tarball(data))
        try:
            archive.unpack(place / "x.tgz", place / "in/tree", at=lambda _: None)
        except ConcourseError as error:
            tally.count("release", taken=False)
            said = str(error)
            if not said.isprintable() or len(said) > 400:
                raise AssertionError(said) from error
        else:
            tally.count("release", taken=True)
        assert {each.name for each in place.iterdir()} == {"out", "x.tgz", "in"}
        assert os.listdir(place / "in") == ["tree"]
        assert (place / "out").read_bytes() == b"as it was"
        assert (place / "out").stat().st_nlink == 1
        _hold_inside(os.path.realpath(place / "in/tree"))


def _hold_inside(tree: str) -> None:
    """Hold what was unpacked to files, folders and links that stay, of which none is for all."""
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                tally.count("symbolic link", taken=True)
                assert f"{_end(path)}/".startswith(f"{tree}/"), os.readlink(path)
                continue
            assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode), path
            assert not status.st_mode & 0o7022, oct(status.st_mode)
            if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                tally.count("hard link", taken=True)


def _end(link: str) -> str:
    """Return where a link leads; of a circle, where it begins, as nothing is behind it."""
    try:
        return os.path.realpath(link, strict=True)
    except OSError as error:
        return link if error.errno == errno.ELOOP else os.path.realpath(link)


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (
        *(web_env, user_secret, connection, database_text, certificates, worker_key, host_key),
        *(repository_key, nvidia_smi, choices, config_toml, apt_source, package_versions),
        release_file,
    )
}


def main() -> None:
    """Run one target with libFuzzer's options."""
    tally.file = Path(sys.argv[2])
    atheris.Setup([sys.argv[0], *sys.argv[3:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
