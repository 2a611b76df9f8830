"""Where the web's files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from host import Layout


@dataclass(frozen=True)
class WebPaths:
    """Every path of the web, below a layout's root."""

    layout: Layout

    @property
    def unit(self) -> Path:
        return self.layout.at("/etc/systemd/system/concourse-web.service")

    @property
    def environment(self) -> Path:
        """Read by systemd, as root, at every start; holds passwords."""
        return self.layout.config_dir / "web.env"

    @property
    def reread(self) -> Path:
        """A second environment file: the digest of what a running web can read again."""
        return self.layout.config_dir / "web-reread.env"

    @property
    def folder(self) -> Path:
        """What the web itself reads: root's, and readable by the web's user alone."""
        return self.layout.config_dir / "web"

    @property
    def session_key(self) -> Path:
        return self.folder / "session_signing_key"

    @property
    def host_key(self) -> Path:
        return self.folder / "tsa_host_key"

    @property
    def authorized_keys(self) -> Path:
        return self.folder / "authorized_worker_keys"

    @property
    def postgres_ca(self) -> Path:
        return self.folder / "postgres_ca.pem"

    @property
    def tls(self) -> Path:
        """Certificate and key in one file, so that they never differ from each other."""
        return self.folder / "tls.pem"

    @property
    def own_account(self) -> Path:
        """There if the charm made the web's user."""
        return self.layout.state / "web-account"

    @property
    def departed(self) -> Path:
        """The workers that have left and may still retire."""
        return self.layout.state / "departed-workers.json"

    @property
    def signalled(self) -> Path:
        """What the running web was last told to read again."""
        return self.layout.state / "web-signalled"
