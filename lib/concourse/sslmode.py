"""libpq's sslmode "prefer", which Concourse doesn't have, settled by asking the server.

Concourse takes disable, require, verify-ca and verify-full (flag/postgres_config.go,
v8.3.0).  PostgreSQL's legacy relation doesn't say whether the server speaks TLS, and a
server that does lets nobody in without (charmed PostgreSQL 14: `hostssl` lines alone).
"""

from __future__ import annotations

import socket

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")  # libpq's pqcomm.h


def settle(mode: str, host: str, port: int, *, timeout: float = 5) -> str | None:
    """Return the mode to give to Concourse.

    Args:
        mode: any of libpq's; all but "prefer" are returned as they are.
        host: the server's name or address.
        port: its port.
        timeout: the limit of each step, in seconds.

    Returns:
        "require" if the server speaks TLS, "disable" if it says that it doesn't, None if it
        gives no answer: then keep what there is and ask again later.
    """
    if mode != "prefer":
        return mode
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(_SSL_REQUEST)
            answer = connection.recv(1)
    except OSError:
        return None
    return {b"S": "require", b"N": "disable"}.get(answer)
