"""Stand-in for the charm of a certificates' provider around a real CA: openssl's.

What it says over `certificates` is what self-signed-certificates says (interface
tls-certificates, version 1): for each request in a unit's databag a certificate, its chain
and the CA, in its application's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from rehearsal.machine import Machine

APP = "ca"
_HOME = "/var/lib/rehearsal-ca"
_MAKE = f"""
install -d -m 0700 {_HOME}
cd {_HOME}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
  -keyout ca.key -out ca.pem -days 2 -subj /CN=rehearsal-ca 2>/dev/null
"""
_SIGN = f"""
cd {_HOME}
openssl x509 -req -in /dev/stdin -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
  -copy_extensions copyall 2>/dev/null
"""


@dataclass
class Authority:
    """A CA and the charm around it.

    Args:
        machine: where openssl runs.
    """

    machine: Machine
    ca: str = ""
    _signed: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        self.machine.shell(_MAKE)
        self.ca = self.machine.read(f"{_HOME}/ca.pem").strip()

    def renew(self) -> None:
        """Forget what was signed: the next answer signs every request anew."""
        self._signed.clear()

    def answer(self, bags: dict[str, dict[str, str]]) -> None:
        """Answer the requests in a relation's databags, one a unit."""
        asked = [
            entry["certificate_signing_request"]
            for member, bag in bags.items()
            if not member.startswith(APP)
            for entry in json.loads(bag.get("certificate_signing_requests", "[]"))
        ]
        given = [self._entry(request) for request in asked]
        bags.setdefault(APP, {})["certificates"] = json.dumps(given)

    def _entry(self, request: str) -> dict[str, object]:
        if request not in self._signed:
            argv = ["sh", "-eu", "-c", _SIGN]
            done = self.machine.run(argv, timeout=20, stdin=f"{request}\n")
            self._signed[request] = done.stdout.strip()
        signed = self._signed[request]
        return {
            "certificate_signing_request": request,
            "certificate": signed,
            "ca": self.ca,
            "chain": [signed, self.ca],
        }
