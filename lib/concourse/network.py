r"""Removes the network of Concourse's containers from a machine.

What Concourse and the CNI plugins of its release make (v8.3.0, worker/runtime/
cni_network.go; plugins 1.9.1; seen with `iptables -S` under a running worker):

- the bridge concourse0, with the first container;
- in the filter table, at start, the chain CONCOURSE-OPERATOR and `-i concourse0` in INPUT;
  with the first container the chain CNI-FORWARD, a rule in it that leads to
  CONCOURSE-OPERATOR, and two rules for each container's address; for a container whose
  traffic is held up `-s ADDRESS -j DROP` in INPUT and FORWARD;
- in the nat table for each container a chain CNI-…, and a rule that leads to it, all with
  a comment `name: "concourse" id: "HANDLE"`;
- below /var/lib/cni what was made, for its own undoing.

The rules of a container go with it only if the worker destroys it; those of containers
that outlive their worker would stay until the next boot.  CNI-FORWARD is every CNI user's,
and goes only if nothing is left in it.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shlex
from collections.abc import Iterable
from contextlib import suppress

from files import remove as remove_path
from host import CommandError, Completed, Layout, run

log = logging.getLogger(__name__)

_BRIDGE = "concourse0"
_CHAIN = "CONCOURSE-OPERATOR"
_FORWARD = "CNI-FORWARD"  # the firewall plugin's, whoever uses it
_POOL = ipaddress.ip_network("10.80.0.0/16")  # --containerd-network-pool's default
_COMMENT = 'name: "concourse" id: "'
_LIMIT = 30.0  # seconds a call; each waits up to 5 for iptables' lock


def remove(layout: Layout) -> None:
    """Remove the bridge, the rules and the records; what fails is logged, and the rest goes on."""
    if layout.at(f"/sys/class/net/{_BRIDGE}").exists():
        _try([layout.program("ip"), "link", "delete", _BRIDGE])
    if os.access(layout.program("iptables"), os.X_OK):
        _remove_filter_rules(layout)
        _remove_nat_rules(layout)
    _remove_records(layout)


def _remove_filter_rules(layout: Layout) -> None:
    rules = _rules(layout, "filter")
    if not any(_is_concourses(rule) for rule in rules):
        return
    for rule in rules:
        if rule[0] == "-A" and rule[1] != _CHAIN and _is_concourses(rule):
            _iptables(layout, "filter", "-D", *rule[1:])
    _drop_chain(layout, "filter", _CHAIN)
    left = _rules(layout, "filter")
    if ["-N", _FORWARD] in left and not any(rule[:2] == ["-A", _FORWARD] for rule in left):
        for rule in left:
            if rule[0] == "-A" and rule[-2:] == ["-j", _FORWARD]:
                _iptables(layout, "filter", "-D", *rule[1:])
        _iptables(layout, "filter", "-X", _FORWARD)


def _remove_nat_rules(layout: Layout) -> None:
    for rule in _rules(layout, "nat"):
        if rule[:2] != ["-A", "POSTROUTING"] or not _has_comment(rule):
            continue
        _iptables(layout, "nat", "-D", *rule[1:])
        if rule[-2] == "-j" and re.fullmatch(r"CNI-[0-9a-f]+", rule[-1]):
            _drop_chain(layout, "nat", rule[-1])


def _is_concourses(rule: list[str]) -> bool:
    """Return whether a rule or chain of the filter table, as `-S` prints it, is Concourse's."""
    if _CHAIN in rule or rule[2:4] == ["-i", _BRIDGE]:
        return True
    target = rule[-1] if rule[-2:-1] == ["-j"] else ""
    held_up = rule[1] in ("INPUT", "FORWARD") and target == "DROP"
    if not held_up and not (rule[1] == _FORWARD and target == "ACCEPT"):
        return False
    return rule[2:3] in (["-s"], ["-d"]) and _is_container(rule[3])


def _is_container(address: str) -> bool:
    try:
        network = ipaddress.ip_network(address)
    except ValueError:
        return False
    return network.num_addresses == 1 and network.network_address in _POOL


def _has_comment(rule: Iterable[str]) -> bool:
    return any(word.startswith(_COMMENT) for word in rule)


def _drop_chain(layout: Layout, table: str, chain: str) -> None:
    _iptables(layout, table, "-F", chain)
    _iptables(layout, table, "-X", chain)


def _rules(layout: Layout, table: str) -> list[list[str]]:
    """Return a table's chains and rules, in the words of iptables' own arguments."""
    listing = _iptables(layout, table, "-S")
    lines = listing.stdout.splitlines() if listing else []
    return [shlex.split(line) for line in lines if line.startswith(("-N ", "-A "))]


def _remove_records(layout: Layout) -> None:
    """Remove what the plugins noted about Concourse's containers, and no other user's."""
    folder = layout.at("/var/lib/cni")
    for record in folder.glob("results/concourse-*-eth0"):
        handle = record.name.removeprefix("concourse-").removesuffix("-eth0")
        remove_path(record)
        remove_path(folder / f"results/cni-loopback-{handle}-lo")
    remove_path(folder / "networks/concourse")
    for path in (folder / "results", folder / "networks", folder):
        with suppress(OSError):  # others' records are in it, or it isn't there
            path.rmdir()


def _iptables(layout: Layout, table: str, *arguments: str) -> Completed | None:
    return _try([layout.program("iptables"), "-w", "5", "-t", table, *arguments])


def _try(argv: list[str]) -> Completed | None:
    """Run a command that may fail; None if it did."""
    try:
        return run(argv, timeout=_LIMIT)
    except CommandError as error:
        log.warning("%s", error)
        return None
