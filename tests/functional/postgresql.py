"""A real PostgreSQL on loopback, in a scratch folder, as an unprivileged user.

It needs Debian's `postgresql` (any version) and `openssl`, and nothing that runs already.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from host import CommandError, run, wait_until

ACCOUNT = "nobody"
_CONF = """
listen_addresses = '{address}'
port = {port}
unix_socket_directories = '{folder}'
fsync = off
password_encryption = 'scram-sha-256'
ssl = {ssl}
ssl_cert_file = '{certificate}'
ssl_key_file = '{key}'
"""


def programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name)
    )
    if not found:
        raise AssertionError("PostgreSQL is not installed: apt-get install postgresql")
    return found[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Authority:
    """A certificate authority made for one test run, and what it has signed."""

    folder: Path

    @property
    def ca(self) -> str:
        return (self.folder / "ca.pem").read_text()

    def make(self) -> Authority:
        self.folder.mkdir()
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem",
                      "-days", "2", "-subj", "/CN=functional-test-ca")  # fmt: skip
        return self

    def sign(self, name: str) -> tuple[Path, Path]:
        """Return a server certificate for a DNS name, which has no address in it, and its key."""
        self._openssl("req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                      "-subj", f"/CN={name}")  # fmt: skip
        (self.folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext",
                      "-out", f"{name}.pem")  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        run(["openssl", *arguments], timeout=30, cwd=self.folder)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass
class Server:
    """One PostgreSQL server.

    Attributes:
        address: the loopback address that it listens on, and nowhere else.
        port: its port.
        folder: everything that it owns.
    """

    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="postgresql-")))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    def create(self, *, tls: tuple[Path, Path] | None = None) -> Server:
        """Make the server and start it; with `tls` it lets nobody in without."""
        self._give_away(self.folder)
        self._run("initdb", "--pgdata", str(self.data), "--auth=trust", "--username=postgres",
                  "--encoding=UTF8", "--no-sync")  # fmt: skip
        kind = "hostssl" if tls else "host"
        (self.data / "pg_hba.conf").write_text(
            "local all all trust\n"
            f"{kind} all all 127.0.0.0/8 scram-sha-256\n"
            "host replication all 127.0.0.0/8 trust\n"
        )
        return self._configure(tls).start()

    def copy_of(self, primary: Server) -> Server:
        """Become a streaming standby of a primary."""
        self._give_away(self.folder)
        self._run("pg_basebackup", "--pgdata", str(self.data), "--write-recovery-conf",
                  "--no-sync", "--checkpoint=fast", "--username=postgres",
                  "--host", primary.address, "--port", str(primary.port))  # fmt: skip
        return self._configure(None).start()

    def start(self) -> Server:
        self._control("start")
        return self

    def stop(self) -> None:
        self._control("stop", "--mode=immediate")

    def catch_up(self, primary: Server) -> None:
        """Wait until all that the primary has is here too."""
        written = primary.sql("SELECT pg_current_wal_flush_lsn()")
        behind = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
        assert wait_until(lambda: self.sql(behind) == "t", timeout=30)

    def promote(self) -> None:
        self._control("promote")

    def remove(self) -> None:
        """Stop whatever runs and leave nothing behind."""
        try:
            if (self.data / "postmaster.pid").exists():
                self.stop()
        finally:
            shutil.rmtree(self.folder)

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Run SQL as the superuser, through the socket."""
        argv = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p",
                str(self.port), "-U", "postgres", "-d", database, "-f", "-")  # fmt: skip
        return self._run(*argv, stdin=statement).strip()

    def add_role(self, user: str, password: str, database: str) -> None:
        """What charmed PostgreSQL does for a relation."""
        self.sql(f"CREATE ROLE {name(user)} LOGIN PASSWORD {literal(password)};")
        self.sql(f"CREATE DATABASE {name(database)} OWNER {name(user)};")

    def set_password(self, user: str, password: str) -> None:
        self.sql(f"ALTER ROLE {name(user)} PASSWORD {literal(password)};")

    def _configure(self, tls: tuple[Path, Path] | None) -> Server:
        certificate, key = self.data / "server.pem", self.data / "server.key"
        if tls:
            for source, target in zip(tls, (certificate, key), strict=True):
                shutil.copy(source, target)
                target.chmod(0o600)
        text = _CONF.format(address=self.address, port=self.port, folder=self.folder,
                            ssl="on" if tls else "off", certificate=certificate,
                            key=key)  # fmt: skip
        (self.data / "postgresql.conf").write_text(text)
        self._give_away(self.data)
        return self

    def _control(self, *arguments: str) -> None:
        log = str(self.folder / "log")
        self._run("pg_ctl", "--pgdata", str(self.data), "--log", log, "--wait", *arguments,
                  discard=True)  # fmt: skip

    def _run(self, program: str, *arguments: str, **more: object) -> str:
        argv = [str(programs() / program), *arguments]
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            argv = ["setpriv", f"--reuid={ACCOUNT}", "--regid=nogroup", "--clear-groups", *argv]
        env = {"HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        try:
            return run(argv, timeout=60, env=env, cwd=self.folder, **more).stdout  # type: ignore[arg-type]
        except CommandError as error:
            log = self.folder / "log"
            said = error.output + (log.read_text()[-2000:] if log.exists() else "")
            raise AssertionError(f"{error}\n{said}") from error

    def _give_away(self, folder: Path) -> None:
        if os.geteuid() != 0:
            return
        account = pwd.getpwnam(ACCOUNT)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def psql(settings: Mapping[str, str], statement: str) -> str:
    """Run SQL as a client does, with nothing secret among the arguments.

    Raises:
        CommandError: no connection, or no answer.
    """
    env = {"PGCONNECT_TIMEOUT": "10", "PGPASSFILE": "/dev/null", **settings}
    argv = [str(programs() / "psql"), "-XAtqw", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    return run(argv, timeout=30, env=env, stdin=statement).stdout.strip()
