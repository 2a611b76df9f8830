from __future__ import annotations

from pathlib import Path

import pytest

from concourse.errors import ConcourseError
from concourse.keys import ensure_worker_key, is_public_key, public_line, worker_key
from host import Layout
from tests.unit.workers import public


@pytest.fixture
def tree(layout: Layout) -> Path:
    """A release whose generate-key counts its calls and writes with the default umask."""
    tree = layout.trees / "8.3.0"
    (tree / "bin").mkdir(parents=True)
    program = tree / "bin/concourse"
    program.write_text(
        "#!/bin/sh\numask 022\n"
        f'echo "$@" >> {layout.root}/calls\n'
        '[ "$1 $2 $3 $4" = "generate-key -t ssh -f" ] || exit 1\n'
        f'echo private > "$5"; echo "{public()}" > "$5.pub"\n'
    )
    program.chmod(0o755)
    return tree


def calls(layout: Layout) -> int:
    return len((layout.root / "calls").read_text().splitlines())


def test_pair_is_made_once_for_root_alone(layout: Layout, tree: Path) -> None:
    assert ensure_worker_key(layout, tree) == public()
    assert ensure_worker_key(layout, tree) == public()
    assert calls(layout) == 1
    assert worker_key(layout).stat().st_mode & 0o777 == 0o600
    assert layout.keys.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in layout.keys.iterdir()) == ["worker_key", "worker_key.pub"]


@pytest.mark.parametrize("missing", ["worker_key", "worker_key.pub"])
def test_half_a_pair_is_made_anew(layout: Layout, tree: Path, missing: str) -> None:
    ensure_worker_key(layout, tree)
    (layout.keys / missing).unlink()
    assert ensure_worker_key(layout, tree) == public()
    assert calls(layout) == 2


def test_open_private_key_is_closed(layout: Layout, tree: Path) -> None:
    ensure_worker_key(layout, tree)
    worker_key(layout).chmod(0o644)
    ensure_worker_key(layout, tree)
    assert worker_key(layout).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("script", ["exit 3", "exit 0", 'echo x > "$5"; echo nonsense > "$5.pub"'])
def test_release_that_makes_no_key_is_an_error_and_leaves_nothing(
    layout: Layout, tree: Path, script: str
) -> None:
    (tree / "bin/concourse").write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(ConcourseError, match="key"):
        ensure_worker_key(layout, tree)
    assert list(layout.keys.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        public(),
        f"{public()} a comment",
        public("ssh-ed25519"),
        public("ecdsa-sha2-nistp256"),
    ],
)
def test_public_keys_are_taken(line: str) -> None:
    assert public_line(f"  {line}\n", "its key") == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-rsa",
        "ssh-rsa !!!!",
        "ssh-rsa AAAA",
        public("ssh-dss"),
        public("ssh-rsa", inner="ssh-ed25519"),
        public(body=b""),
        f"{public()}\n{public()}",
        f"{public()}\r{public()}",
        f'command="x" {public()}',
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_anything_else_is_refused_and_named(line: str) -> None:
    assert not is_public_key(line)
    with pytest.raises(ConcourseError, match="the web's host key"):
        public_line(line, "the web's host key")
