"""One network for several machines, in their own network namespaces: nothing of it is the host's.

A bridge in the first machine, with that machine's address, and a virtual cable from it to
each other machine.  It goes with the machines.
"""

from __future__ import annotations

import subprocess

from .machine import Machine, MachineError

_PREFIX = "10.20.30"
_BRIDGE = "eth0"  # in the first machine the bridge is what the others' cables are


class Network:
    """The machines' network.

    Args:
        hub: the first machine.
    """

    def __init__(self, hub: Machine) -> None:
        self._hub = hub
        self._count = 1
        _ip(hub, "link", "add", _BRIDGE, "type", "bridge")
        self.hub_address = self._address(hub)

    def add(self, machine: Machine) -> str:
        """Connect another machine; return its address."""
        self._count += 1
        port = f"port{self._count}"
        ends = ("type", "veth", "peer", "name", "eth0", "netns", str(machine.leader))
        _ip(self._hub, "link", "add", port, *ends)
        _ip(self._hub, "link", "set", port, "master", _BRIDGE, "up")
        address = self._address(machine)
        # A worker asks which of its addresses leads out; nothing beyond the machines answers.
        _ip(machine, "route", "add", "default", "via", self.hub_address)
        return address

    def more(self, machine: Machine) -> str:
        """Give a machine another address; return it."""
        self._count += 1
        return self._address(machine)

    def _address(self, machine: Machine) -> str:
        address = f"{_PREFIX}.{self._count}"
        _ip(machine, "address", "add", f"{address}/24", "dev", "eth0")
        _ip(machine, "link", "set", "eth0", "up")
        return address


def _ip(machine: Machine, *arguments: str) -> None:
    """Run a machine's own `ip` in its network, with this machine's process ids."""
    argv = ["nsenter", "-t", str(machine.leader), "-m", "-n", "-r", "-w", "ip", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise MachineError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")
