"""Stand-in for the https side of `concourse web`, beside `concourse_web`.

As the real one it serves the files it was given, refuses to start where its settings don't
fit (atc/atccmd/command.go, validate), and, told to read them again, closes its port first
and opens it anew (atc/tls/runner.go).
"""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Https:
    """A port for https.

    Args:
        where: its address and port.
        certificate: the file with the certificate and its chain.
        key: the file with its key.
        api: what answers.
    """

    def __init__(
        self,
        where: tuple[str, int],
        certificate: str,
        key: str,
        api: type[BaseHTTPRequestHandler],
    ) -> None:
        self._where, self._api = where, api
        self._files = certificate, key
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Read the files and open the port.

        Raises:
            OSError: there is no certificate, or its key isn't the one given.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        server = ThreadingHTTPServer(self._where, self._api)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._server = server

    def read_again(self) -> None:
        """Close the port, read the files, open it again."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self.start()


def flaw(port: str, certificate: str, key: str, external_url: str) -> str:
    """Return what is wrong with the settings for https; "" if nothing is."""
    if not port:
        return "must specify --tls-bind-port to use TLS" if certificate or key else ""
    if not certificate or not key:
        return "must specify --tls-cert and --tls-key, or --enable-lets-encrypt to use TLS"
    if not external_url.startswith("https:"):
        return "must specify HTTPS external-url to use TLS"
    return ""
