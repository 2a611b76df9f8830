"""Stand-in for charmed PostgreSQL around a real server: Debian's, in a machine of its own.

What it says over `database` is what charmed PostgreSQL 14 and 16 say (interface
postgresql_client, version 0): a role and a database for each relation, credentials and
TLS as Juju secrets.  Nothing of Debian's own cluster is used.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field

from rehearsal.machine import Machine

from .model import Secret

PORT = 5432
_HOME = "/var/lib/rehearsal-postgresql"
_INSTALL = (
    "ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && exit 0\n"
    "export DEBIAN_FRONTEND=noninteractive\n"
    "apt-get update -qq\napt-get install -qq -y --no-install-recommends postgresql openssl\n"
)
CLIENT = (
    "command -v psql >/dev/null && exit 0\n"
    "export DEBIAN_FRONTEND=noninteractive\n"
    "apt-get update -qq\napt-get install -qq -y --no-install-recommends postgresql-client\n"
)
_CA = """
openssl req -x509 $new -keyout ca.key -out ca.pem -days 2 -subj /CN=rehearsal-ca
openssl req $new -keyout server.key -out server.csr -subj /CN=postgresql-0
echo subjectAltName=DNS:postgresql-0 >server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
  -extfile server.ext -out server.pem
"""
_NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


@dataclass
class Server:
    """A real PostgreSQL.

    Args:
        machine: where it runs, as Debian's user postgres.
        address: the machine's address, where it listens.
    """

    machine: Machine
    address: str
    programs: str = ""
    tls: bool = False

    def start(self) -> None:
        """Install it if need be, make it, start it; it speaks no TLS yet."""
        self.machine.shell(_INSTALL, timeout=300)
        found = self.machine.shell("ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1")
        self.programs = found.strip()
        self.machine.shell(f"install -d -o postgres -g postgres {_HOME}")
        self._as_postgres(
            f"{self.programs}/initdb --pgdata={_HOME}/data --auth=trust --encoding=UTF8 --no-sync"
        )
        self._configure(tls=False)
        self.machine.shell(
            # SIGINT: who is connected is cut off, not waited for.
            "systemd-run --quiet --unit=rehearsal-postgresql --uid=postgres "
            "--property=KillSignal=SIGINT "
            f"{self.programs}/postgres -D {_HOME}/data\n{self._wait_until_it_answers()}"
        )

    def encrypt(self) -> str:
        """Let nobody in without TLS from now on; return the certificate to verify it by."""
        self._as_postgres(f'cd {_HOME}\nnew="{_NEW_KEY}"\n{_CA}')
        self._configure(tls=True)
        self.sql("SELECT pg_reload_conf()")
        return self.machine.read(f"{_HOME}/ca.pem")

    def move(self, address: str) -> None:
        """Answer at another address of the machine, no more at the one before."""
        self.address = address
        self._configure(tls=self.tls)
        self.machine.shell(
            f"systemctl restart rehearsal-postgresql\n{self._wait_until_it_answers()}"
        )

    def sql(self, statement: str) -> str:
        """Run SQL as the superuser; return what it printed."""
        argv = ["runuser", "-u", "postgres", "--", f"{self.programs}/psql", "-XAtq", "-h", _HOME]
        argv += ["-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", "-"]
        return self.machine.run(argv, timeout=30, stdin=statement).stdout.strip()

    def _wait_until_it_answers(self) -> str:
        asked = f"{self.programs}/pg_isready -q -h {_HOME}"
        return f"for i in $(seq 100); do {asked} && exit 0\nsleep 0.1; done; exit 1"

    def _configure(self, *, tls: bool) -> None:
        self.tls = tls
        kind = "hostssl" if tls else "host"
        self.machine.write(
            f"{_HOME}/data/pg_hba.conf", f"local all all trust\n{kind} all all all scram-sha-256\n"
        )
        self.machine.write(
            f"{_HOME}/data/postgresql.conf",
            f"listen_addresses = '{self.address}'\nport = {PORT}\n"
            f"unix_socket_directories = '{_HOME}'\nfsync = off\n"
            f"password_encryption = 'scram-sha-256'\nssl = {'on' if tls else 'off'}\n"
            f"ssl_cert_file = '{_HOME}/server.pem'\nssl_key_file = '{_HOME}/server.key'\n",
        )

    def _as_postgres(self, script: str) -> None:
        argv = ["runuser", "-u", "postgres", "--", "sh", "-eu", "-c", script]
        self.machine.run(argv, timeout=60)


@dataclass
class Charmed:
    """The charm around a server, as far as a related application meets it.

    Args:
        server: the server.
        secrets: the model's secrets, where it puts its own.
    """

    server: Server
    secrets: dict[str, Secret]
    _ids: dict[str, str] = field(default_factory=dict)
    _legacy: dict[str, tuple[str, str]] = field(default_factory=dict)
    _ca: str = ""

    def answer(self, app: str, asked: dict[str, str], bag: dict[str, str]) -> None:
        """Answer a related application's request, once it has said which database it wants.

        Args:
            app: the application.
            asked: what it says in its databag.
            bag: what is said to it.
        """
        name = asked.get("database")
        if not name:
            return
        if bag.get("database"):
            bag["endpoints"] = f"{self.server.address}:{PORT}"  # the primary may have moved
            return
        wanted = json.loads(asked.get("requested-secrets", "[]"))
        if not {"username", "password", "tls", "tls-ca"} <= set(wanted):
            raise AssertionError("asked without Juju secrets: credentials would lie open")
        user, password = self._open(app, name)
        bag |= {
            "database": name,
            "endpoints": f"{self.server.address}:{PORT}",
            "secret-user": self._give(app, "user", self._login(user, password, name)),
            "secret-tls": self._give(app, "tls", self._encryption()),
            "version": "15.0",
        }

    def answer_legacy(
        self, app: str, units: dict[str, dict[str, str]], bag: dict[str, str]
    ) -> None:
        """Answer over `db`, as 14 does (src/relations/db.py): in the databag of its own unit.

        Args:
            app: the application.
            units: what its units say; those that name a database are let in.
            bag: what is said to them.
        """
        asked = {name: said for name, said in units.items() if said.get("database")}
        if not asked:
            return
        name = next(iter(asked.values()))["database"]
        if app not in self._legacy:
            self._legacy[app] = self._open(app, name)
        user, password = self._legacy[app]
        where = f"host={self.server.address} port={PORT}"
        bag |= {
            "allowed-subnets": ",".join(said["egress-subnets"] for said in asked.values()),
            "allowed-units": " ".join(sorted(asked)),
            "database": name,
            "master": f"dbname={name} {where} user={user} password={password} "
            "fallback_application_name=" + app,
            "state": "master",
            "version": "14",
        }

    def _open(self, app: str, name: str) -> tuple[str, str]:
        """Make an application's role and database; return the role and its password.

        A database outlives its relation, as with charmed PostgreSQL.
        """
        user, password = f"relation_{app.replace('-', '_')}", secrets.token_urlsafe(24)
        if self.server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{user}'"):
            self.server.sql(f"ALTER ROLE {user} PASSWORD '{password}'")
            return user, password
        self.server.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        self.server.sql(f"CREATE DATABASE {name} OWNER {user}")
        return user, password

    def rotate(self, app: str) -> str:
        """Give an application's role another password; return the old one."""
        secret = self.secrets[self._ids[f"{app}-user"]]
        old, user = secret.content["password"], secret.content["username"]
        password = secrets.token_urlsafe(24)
        self.server.sql(f"ALTER ROLE {user} PASSWORD '{password}'")
        name = secret.content["uris"].rpartition("/")[2]
        secret.revise(self._login(user, password, name))
        return old

    def forget(self, app: str) -> None:
        """Drop what an application that is gone had: its database and its role."""
        login = self.secrets[self._ids.pop(f"{app}-user")].content
        self._ids.pop(f"{app}-tls")
        name = login["uris"].rpartition("/")[2]
        self.server.sql(f"DROP DATABASE {name} WITH (FORCE)")
        self.server.sql(f"DROP ROLE {login['username']}")

    def encrypt(self) -> None:
        """Have the server take TLS only, and tell every application."""
        self._ca = self.server.encrypt()
        for label, identity in self._ids.items():
            if label.endswith("-tls"):
                self.secrets[identity].revise(self._encryption())

    def _encryption(self) -> dict[str, str]:
        return {"tls": "True", "tls-ca": self._ca} if self._ca else {"tls": "False"}

    def _login(self, user: str, password: str, name: str) -> dict[str, str]:
        uri = f"postgresql://{user}:{password}@{self.server.address}:{PORT}/{name}"
        return {"username": user, "password": password, "uris": uri}

    def _give(self, app: str, what: str, content: dict[str, str]) -> str:
        identity = f"secret:{secrets.token_hex(10)}"
        made = Secret("", "application", content, holder="postgresql", granted={app})
        self.secrets[identity] = made
        self._ids[f"{app}-{what}"] = identity
        return identity
