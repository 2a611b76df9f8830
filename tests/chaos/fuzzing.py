"""Coverage-guided fuzzing (Atheris) of what reads text that others wrote.

    python -m tests.chaos.fuzzing TARGET [options of libFuzzer]

Each target takes bytes and raises only if a promise is broken; what it refuses by the
exception that its docstring names is well.  libFuzzer's own limits hold time and memory.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["concourse", "gpu", "conninfo", "database_fields"]):
    import conninfo
    import database_fields
    from concourse import archive, authorized, environment, extra_env, web_keys
    from concourse.errors import ConcourseError
    from gpu import openpgp, selection, smi, toml_edit, versions
    from gpu.repository import _fields
    from host import Completed
from tests.unit.systemd_env import read_environment_file

Target = Callable[[bytes], None]


def _text(data: bytes) -> str:
    return data.decode(errors="replace").replace("\0", "")


def web_env(data: bytes) -> None:
    """A variable that is taken comes out of systemd as it went in."""
    try:
        found = extra_env.parse(_text(data), extra_env.WORKER_MANAGED)
    except ValueError as error:
        said = str(error)
        if not said.isprintable():
            raise AssertionError(said) from error
        return
    text = "".join(f"{name}={environment.quoted(value)}\n" for name, value in found.items())
    assert read_environment_file(text) == found
    assert environment.parse(text) == found
    assert all(re.fullmatch(r"CONCOURSE_[A-Z0-9_]+", name) for name in found)


def user_secret(data: bytes) -> None:
    """The same for a secret; a refusal never holds a value."""
    key, _, value = _text(data).partition("\n")
    with suppress(ValueError):
        found = extra_env.secret_env({key: value}, ())
        text = "".join(f"{name}={environment.quoted(each)}\n" for name, each in found.items())
        assert read_environment_file(text) == found


def connection(data: bytes) -> None:
    """A connection string is read, or refused by ValueError."""
    with suppress(ValueError):
        found = conninfo.parse(_text(data))
        assert all(isinstance(each, str) for each in found.values())


def database_text(data: bytes) -> None:
    """A field of a database fits on one line of an environment file, or is Malformed."""
    text = _text(data)
    for read in (database_fields.host, database_fields.port, database_fields.text):
        with suppress(database_fields.Malformed):
            found = str(read("x", text))
            assert environment.parse(f"X={environment.quoted(found)}\n") == {"X": found}
    with suppress(database_fields.Malformed):
        database_fields.certificates("x", text)


def worker_key(data: bytes) -> None:
    """A key that is let in is one line of a type, base64 and, behind it, a name."""
    text = _text(data)
    good, refused = authorized._sorted_out({"worker-0": text, text[:200]: text})
    for name, key in good.items():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name)
        assert re.fullmatch(r"(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/=]+", key), key
    assert all(name.isprintable() for name in refused)


def host_key(data: bytes) -> None:
    """A private key gives its public line, or ConcourseError."""
    with suppress(ConcourseError):
        assert web_keys.public_host_key(_text(data)).startswith("ssh-rsa ")


def repository_key(data: bytes) -> None:
    """A key is read, or refused by ValueError."""
    with suppress(ValueError):
        _, fingerprints = openpgp.read_keys(data)
        assert all(re.fullmatch(r"[0-9A-F]{40,64}", each) for each in fingerprints)


def nvidia_smi(data: bytes) -> None:
    """Whatever it prints, a GPU has a UUID, and all else is short and printable."""
    answer = smi._read(Completed(("nvidia-smi",), 0, _text(data), ""))
    assert answer.error.isprintable()
    for gpu in smi._with_mig(answer.gpus, _text(data)):
        assert re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", gpu.uuid)
        assert gpu.name.isprintable()
        assert len(gpu.name) <= 120


def choices(data: bytes) -> None:
    """A list of devices, capabilities or tags holds nothing that a table or a list could split."""
    text = _text(data)
    with suppress(ValueError):
        assert all(re.fullmatch(r"[A-Za-z0-9:/-]+", one) for one in selection.parse(text).wanted)
    with suppress(ValueError):
        assert re.fullmatch(r"[a-z0-9,]+", selection.parse_capabilities(text))
    with suppress(ValueError):
        assert all(re.fullmatch(r"[!-~]+", tag) for tag in selection.parse_tags(text))


def config_toml(data: bytes) -> None:
    """A file that can be read keeps all its values but the one that is set."""
    text = _text(data)
    try:
        before = toml_edit.values_of(text)
    except (ValueError, RecursionError):  # tomlkit's own are among the first
        return
    path = ("nvidia-container-runtime", "runtimes")
    if not isinstance(before.get(path[0], {}), dict):
        return
    after = toml_edit.values_of(toml_edit.edited(text, {path: ["/x/runc"]}))
    assert after.get(path[0], {}).pop(path[1]) == ["/x/runc"]
    before.get(path[0], {}).pop(path[1], None)
    assert after.get(path[0], {}) == before.get(path[0], {})


def apt_source(data: bytes) -> None:
    """Other people's sources are read without a word."""
    _fields(_text(data))


def package_versions(data: bytes) -> None:
    """An order has no circle."""
    one, _, other = _text(data).partition("\n")
    assert not (versions.older(one, other) and versions.older(other, one))


def release_file(data: bytes) -> None:
    """A tarball is unpacked below its folder, or refused by ConcourseError."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        tarball, target = Path(folder, "x.tgz"), Path(folder, "in/tree")
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as out:
            out.write(data)
        tarball.write_bytes(packed.getvalue() if len(data) % 4 else data)
        with suppress(ConcourseError):
            archive.unpack(tarball, target, at=lambda _: None)
        assert {each.name for each in Path(folder).iterdir()} <= {"x.tgz", "in"}


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (
        *(web_env, user_secret, connection, database_text, worker_key, host_key),
        *(repository_key, nvidia_smi, choices, config_toml, apt_source, package_versions),
        release_file,
    )
}


def main() -> None:
    """Run one target with libFuzzer's options."""
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
