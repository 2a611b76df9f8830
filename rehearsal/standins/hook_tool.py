#!/usr/bin/python3 -IS
"""Stand-in for Juju's hook tools: every tool is a link to this file.

It hands its name and arguments to the rehearsal, which takes the part of Juju's agent
(`standins.agent`), and prints what comes back; files are read on this side.
"""

import json
import os
import socket
import sys


def main() -> int:
    """Ask the agent and answer as it says."""
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
    request = {"tool": os.path.basename(sys.argv[0]), "arguments": arguments, "stdin": stdin}
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(os.environ["JUJU_AGENT_SOCKET_ADDRESS"])
        agent.sendall(json.dumps(request).encode() + b"\n")
        with agent.makefile("r", encoding="utf-8") as answer:
            reply = json.loads(answer.readline())
    sys.stdout.write(reply["stdout"])
    sys.stderr.write(reply["stderr"])
    return int(reply["code"])


if __name__ == "__main__":
    sys.exit(main())
