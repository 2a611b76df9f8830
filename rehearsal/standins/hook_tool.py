#!/usr/bin/python3 -IS
"""Stand-in for Juju's hook tools: every tool is a link to this file.

It hands its name and arguments to the rehearsal, which takes the part of Juju's agent
(`standins.agent`), and prints what comes back; files are read on this side.  It is started a
dozen times in each hook, so it imports next to nothing: `socket` and `json` alone would double
its time.
"""

import os
import sys
from _socket import AF_UNIX, SHUT_WR, socket


def main() -> int:
    """Ask the agent and answer as it says: fields with a NUL between them, both ways."""
    arguments = sys.argv[1:]
    stdin = ""
    if "--file" in arguments:
        place = arguments[arguments.index("--file") + 1]
        with open(0 if place == "-" else place, encoding="utf-8") as file:
            stdin = file.read()
    for number, argument in enumerate(arguments):
        key, mark, place = argument.partition("#file=")
        if mark:
            with open(place, encoding="utf-8") as file:
                arguments[number] = f"{key}={file.read()}"
    agent = socket(AF_UNIX)
    agent.connect(os.environ["JUJU_AGENT_SOCKET_ADDRESS"])
    agent.sendall("\0".join([os.path.basename(sys.argv[0]), stdin, *arguments]).encode())
    agent.shutdown(SHUT_WR)
    answer = b"".join(iter(lambda: agent.recv(1 << 16), b""))
    code, stdout, stderr = answer.decode().split("\0")
    sys.stdout.write(stdout)
    sys.stderr.write(stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
