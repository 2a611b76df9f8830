"""What Concourse's network leaves on a machine, as a real worker left it, and its removal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from concourse import network
from host import Layout

HANDLE = "10a13e10-3162-4ff2-bab6-ea6f20843067"
CHAIN = "CNI-fe4071f286e6b7acd5711bce"
COMMENT = rf'-m comment --comment "name: \"concourse\" id: \"{HANDLE}\""'
OTHERS = r'-m comment --comment "name: \"podman\" id: \"x\""'
FILTER = """\
-P INPUT ACCEPT
-N CNI-FORWARD
-N CONCOURSE-OPERATOR
-A INPUT -s 10.80.0.2/32 -j DROP
-A INPUT -i concourse0 -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CONCOURSE-OPERATOR
-A CNI-FORWARD -d 10.80.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A CNI-FORWARD -s 10.80.0.2/32 -j ACCEPT
-A CONCOURSE-OPERATOR -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
"""
NAT = f"""\
-P POSTROUTING ACCEPT
-N {CHAIN}
-A POSTROUTING -s 10.80.0.2/32 {COMMENT} -j {CHAIN}
-A {CHAIN} -d 10.80.0.0/16 {COMMENT} -j ACCEPT
-A {CHAIN} ! -d 224.0.0.0/4 {COMMENT} -j MASQUERADE
"""
# The operator's, and another CNI user's.
FOREIGN_FILTER = """\
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -s 10.90.0.1/32 -j DROP
-A FORWARD -s 10.80.0.0/16 -j ACCEPT
"""
FOREIGN_FORWARD = "-A CNI-FORWARD -s 10.88.0.5/32 -j ACCEPT\n"
FOREIGN_NAT = f"""\
-N CNI-0123456789abcdef01234567
-A POSTROUTING -s 10.88.0.5/32 {OTHERS} -j CNI-0123456789abcdef01234567
"""
# As iptables does: a rule is named in full, and a chain that is in use isn't removed.
IPTABLES = """\
#!{python}
import shlex, sys
from pathlib import Path
words = sys.argv[1:]
assert words[:3] == ["-w", "5", "-t"], words
file = Path(__file__).with_name(words[3])
lines = file.read_text().splitlines()
verb, chain = words[4], words[5] if len(words) > 5 else ""
if verb == "-S":
    print("\\n".join(lines))
elif verb == "-D":
    lines.pop([shlex.split(line)[1:] for line in lines].index(words[5:]))
elif verb == "-F":
    lines = [line for line in lines if line.split()[:2] != ["-A", chain]]
elif verb == "-X":
    assert not any(chain in line.split() for line in lines if line.startswith("-A")), "in use"
    lines.remove(f"-N {{chain}}")
file.write_text("".join(line + "\\n" for line in lines))
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    program = tmp_path / "usr/sbin/iptables"
    program.parent.mkdir(parents=True)
    program.write_text(IPTABLES.format(python=sys.executable))
    program.chmod(0o755)
    return Layout(tmp_path)


def put(layout: Layout, filters: str, nat: str) -> None:
    (layout.root / "usr/sbin/filter").write_text(filters)
    (layout.root / "usr/sbin/nat").write_text(nat)


def rules(layout: Layout) -> tuple[list[str], list[str]]:
    folder = layout.root / "usr/sbin"
    filters, nat = ((folder / name).read_text() for name in ("filter", "nat"))
    return sorted(filters.splitlines()), sorted(nat.splitlines())


def test_all_that_a_worker_and_its_containers_made_is_gone(layout: Layout) -> None:
    put(layout, FILTER, NAT)
    network.remove(layout)
    assert rules(layout) == (["-P INPUT ACCEPT"], ["-P POSTROUTING ACCEPT"])


def test_rules_of_others_stay(layout: Layout) -> None:
    put(layout, FILTER + FOREIGN_FILTER, NAT + FOREIGN_NAT)
    network.remove(layout)
    kept = sorted(["-P INPUT ACCEPT", *FOREIGN_FILTER.splitlines()])
    assert rules(layout) == (kept, sorted(["-P POSTROUTING ACCEPT", *FOREIGN_NAT.splitlines()]))


def test_another_users_container_keeps_the_common_chain(layout: Layout) -> None:
    put(layout, FILTER + FOREIGN_FORWARD, NAT)
    network.remove(layout)
    jump = '-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD'
    kept = ["-P INPUT ACCEPT", "-N CNI-FORWARD", jump, FOREIGN_FORWARD.rstrip()]
    assert rules(layout)[0] == sorted(kept)


def test_a_machine_that_never_ran_a_worker_is_left_alone(layout: Layout) -> None:
    empty = "-N CNI-FORWARD\n-A FORWARD -j CNI-FORWARD\n" + FOREIGN_FILTER
    put(layout, empty, FOREIGN_NAT)
    before = rules(layout)
    network.remove(layout)
    assert rules(layout) == before


def test_a_worker_that_never_ran_a_container(layout: Layout) -> None:
    lines = FILTER.splitlines(keepends=True)
    put(layout, "".join(line for line in lines if "CNI-FORWARD" not in line), "")
    network.remove(layout)
    assert rules(layout)[0] == ["-P INPUT ACCEPT"]


def test_a_second_removal_finds_nothing_to_do(layout: Layout) -> None:
    put(layout, FILTER + FOREIGN_FILTER, NAT)
    network.remove(layout)
    before = rules(layout)
    network.remove(layout)
    assert rules(layout) == before


def test_a_machine_without_iptables(tmp_path: Path) -> None:
    network.remove(Layout(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("others", [False, True])
def test_records_of_containers(layout: Layout, *, others: bool) -> None:
    put(layout, "", "")
    folder = layout.at("/var/lib/cni")
    for name in ("networks/concourse/lock", f"results/concourse-{HANDLE}-eth0",
                 f"results/cni-loopback-{HANDLE}-lo"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    theirs = [folder / "results/podman-x-eth0", folder / "results/cni-loopback-x-lo"]
    for path in theirs if others else ():
        path.touch()
    network.remove(layout)
    left = sorted(path for path in folder.rglob("*") if path.is_file())
    assert left == (sorted(theirs) if others else [])
    assert folder.exists() == others
