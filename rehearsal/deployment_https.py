"""The part of the deployment's play about the web's own certificate."""

from __future__ import annotations

import json

from .deployment_parts import WEB, WORKER, workers
from .model_stage import Stage, wait_for
from .standins.authority import APP, Authority

_SERVICE = "concourse-web"
# A client that trusts the CA alone, on another machine than the web's.
_VISIT = """
import http.client, json, ssl, sys, urllib.parse
said = json.load(sys.stdin)
where = urllib.parse.urlsplit(said["url"])
context = ssl.create_default_context(cadata=said["ca"])
connection = http.client.HTTPSConnection(where.hostname, where.port, timeout=5, context=context)
connection.request("GET", "/api/v1/info")
seen = connection.sock.getpeercert()
answer = json.load(connection.getresponse())
names = [value for _, value in seen["subjectAltName"]]
print(json.dumps([seen["serialNumber"], names, answer["external_url"]]))
"""


def switched_on(stage: Stage) -> None:
    """Switch TLS on, relate a CA, look at the web, renew its certificate, switch TLS off."""
    stage.screen.part("juju config web tls-enabled=true")
    stage.configure("web", tls_enabled=True)
    stage.settle()
    stage.expect(WEB, "blocked  tls-enabled=true, but no certificate: "
                 "juju relate web:certificates PROVIDER:certificates")  # fmt: skip
    stage.screen.check(bool(workers(stage)), "the web goes on with http meanwhile")
    stage.screen.part(f"juju relate web:certificates {APP}:certificates")
    authority = Authority(stage.server.machine)
    authority.start()
    stage.certify(authority)
    stage.settle()
    stage.expect(WEB, "active  Web ready")
    url = stage.action(WEB, "get-admin-password").results["url"]
    serial, names = _visit(stage, authority, url)
    address = stage.units[WEB].model.address
    stage.screen.check(
        bool(serial), f"a client that trusts {APP} alone reaches {url}, certified for {names}"
    )
    stage.screen.check(names == address, "the certificate is for the web's address", names)
    opened = " ".join(sorted(stage.units[WEB].model.ports))
    stage.screen.check(opened == "2222/tcp 8080/tcp", f"open ports: {opened}")
    _renewed(stage, authority, url, serial)
    _switched_off(stage)


def _renewed(stage: Stage, authority: Authority, url: str, serial: str) -> None:
    stage.screen.part(f"{APP} signs a new certificate")
    before = stage.process(WEB, _SERVICE)
    authority.renew()
    stage.answer_all()
    stage.settle()

    def is_new() -> bool:
        return _visit(stage, authority, url)[0] not in ("", serial)

    there = wait_for(is_new, stage.units[WORKER].machine)
    stage.screen.check(there, "the web shows it")
    same = stage.process(WEB, _SERVICE) == before
    stage.screen.check(same, "it was read without a restart")


def _switched_off(stage: Stage) -> None:
    stage.screen.part("juju config web tls-enabled=false")
    stage.configure("web", tls_enabled=False)
    stage.settle()
    left = "ls /etc/concourse/web/tls.pem 2>/dev/null"
    gone = not stage.units[WEB].machine.shell(left, check=False).strip()
    stage.screen.check(gone, "certificate and key are gone")

    def back() -> bool:
        found = workers(stage)
        return [state for state, _ in found.values()] == ["running", "running"]

    there = wait_for(back, stage.units[WORKER].machine)
    stage.screen.check(there, "the web speaks http, and both workers are back")
    stage.expect(WEB, "active  Web ready")


def _visit(stage: Stage, authority: Authority, url: str) -> tuple[str, str]:
    """Return the serial number and the names of the certificate; "" if there is no trust."""
    entry = json.dumps({"url": url, "ca": authority.ca})
    argv = ["python3", "-c", _VISIT]
    done = stage.units[WORKER].machine.run(argv, timeout=30, stdin=entry, check=False)
    if done.returncode != 0:
        return "", done.stderr.strip().rpartition("\n")[2]
    serial, names, said = json.loads(done.stdout)
    return (serial, ", ".join(names)) if said == url else ("", f"external_url is {said}")
