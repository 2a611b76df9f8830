"""What the tests on a real model share: the packed charm, and a stand-in for a web."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def packed_charm() -> Path:
    """The newest charm for 22.04 that `tox -e pack` left in the repository's folder."""
    found = list(HERE.parents[1].glob("concourse-ci-machine_ubuntu-22.04-*.charm"))
    assert found, "no packed charm here: run `tox -e pack` first"
    return max(found, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def web_charm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A charm that offers concourse-tsa and publishes an address where nobody listens."""
    charm = tmp_path_factory.mktemp("web") / "stand-in-web.charm"
    with zipfile.ZipFile(charm, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted((HERE / "web").iterdir()):
            out.write(path, path.name)
    return charm
