"""The whole charm on a scratch root, with a release, keys and systemd's answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops import testing

import charm
from concourse.environment import parse
from concourse.paths import WebPaths
from host import Layout
from tests.unit.releases import member, pack
from tests.unit.webs import Programs, pem, pkcs1, rsa_line

MODULUS = (1 << 2047) | 12345
# What the charm asks of a release: which it is, keys, and the schema of its database.
CONCOURSE = f"""#!/bin/sh
[ "$1" = --version ] && echo 8.3.0 && exit
[ "$1" = generate-key ] || exit 1  # no schema: the database is empty
cat >"$5" <<END
{pem(pkcs1(MODULUS))}END
echo "{rsa_line()}" >"$5.pub"
"""


class Whole:
    """One unit of the charm with its machine.

    Attributes:
        layout: the machine, below a scratch folder.
        programs: systemctl and the rest; a service that is started fails at once, so that
            no hook waits for one.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(root)
        self.programs = Programs(self.layout)
        self.programs.has(ActiveState="failed", Result="exit-code")
        self.layout.at("/tmp").mkdir()
        self.layout.at("/proc").mkdir(exist_ok=True)
        release = root / "concourse.tgz"
        release.write_bytes(
            pack(
                [
                    member("concourse/bin/concourse", CONCOURSE.encode(), mode=0o755),
                    member("concourse/bin/runc", b"#!/bin/sh\n", mode=0o755),
                    member("concourse/resource-types/git/rootfs.tgz", b"x" * 4096),
                ]
            )
        )
        self.resource = testing.Resource(name="concourse", path=str(release))
        monkeypatch.setattr(charm.ConcourseCharm, "layout", self.layout)
        self.context = testing.Context(charm.ConcourseCharm)

    def configure(self, given: testing.State) -> testing.State:
        """Run config-changed."""
        return self.context.run(self.context.on.config_changed(), given)

    @property
    def web(self) -> dict[str, str]:
        """The web's environment as its next start has it."""
        return _read(WebPaths(self.layout).environment)

    @property
    def worker(self) -> dict[str, str]:
        """The worker's environment."""
        return _read(self.layout.worker_env)


def _read(path: Path) -> dict[str, str]:
    return parse(path.read_text()) if path.exists() else {}
