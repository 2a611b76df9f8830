"""The command `python -m rehearsal`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from . import deployment
from .choice import EARLIER, Choice
from .machine import MachineError
from .play import play, version_of
from .screen import Screen


def main() -> int:
    """Play what the command line asks for; return the exit status."""
    choice = _choice()
    if os.geteuid() != 0:
        print("The rehearsal needs root: run it with sudo.", file=sys.stderr)
        return 1
    try:
        return (deployment.play if choice.deployment else play)(choice, Screen())
    except MachineError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the machine is gone.", file=sys.stderr)
        return 128 + signal.SIGINT


def _choice() -> Choice:
    parser = argparse.ArgumentParser(
        prog="rehearsal",
        description="Run the charm as Juju would, in a throw-away copy of this machine. "
        "The exit status is 0 only if all is as it should be.",
    )
    parser.add_argument(
        "--deployment",
        action="store_true",
        help="a web, workers and PostgreSQL, each on a machine of its own",
    )
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="how many GPUs (1)")
    parser.add_argument("--lxd", action="store_true", help="the machine is an LXD container")
    trouble = parser.add_mutually_exclusive_group()
    trouble.add_argument("--no-driver", action="store_true", help="no kernel driver is loaded")
    trouble.add_argument(
        "--no-passthrough", action="store_true", help="LXD passes no GPU through (implies --lxd)"
    )
    trouble.add_argument(
        "--mismatch", action="store_true", help="libraries of another version than the driver"
    )
    parser.add_argument("--toolkit", type=Path, metavar="DIR", help="NVIDIA's own .deb packages")
    parser.add_argument("--concourse", type=Path, metavar="FILE", help="a real release, a .tgz")
    parser.add_argument("--charm", type=Path, metavar="PATH", help="a charm, packed or unpacked")
    parser.add_argument(
        "--refresh-from",
        nargs="?",
        const=EARLIER,
        default="",
        metavar="REV",
        help=f"deploy the charm of an earlier commit ({EARLIER[:7]}), then juju refresh",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave a shell in the machine when it is ready"
    )
    given = parser.parse_args()
    if not 0 <= given.gpus <= 16:
        parser.error("--gpus takes a number from 0 to 16")
    for path in (given.toolkit, given.concourse, given.charm):
        if path and not path.exists():
            parser.error(f"{path} does not exist")
    choice = Choice(
        gpus=given.gpus,
        lxd=given.lxd or given.no_passthrough,
        driver=not given.no_driver,
        passed=not given.no_passthrough,
        mismatch=given.mismatch,
        toolkit=given.toolkit,
        charm=given.charm,
        keep=given.keep,
        deployment=given.deployment,
        refresh_from=given.refresh_from,
    )
    alone = (
        given.lxd,
        given.no_driver,
        given.no_passthrough,
        given.mismatch,
        given.toolkit,
        given.keep,
        given.refresh_from,
    )
    if given.deployment and any(alone):
        parser.error("--deployment goes with --gpus, --charm and --concourse only")
    if not given.concourse:
        return choice
    try:
        return replace(choice, concourse=given.concourse, version=version_of(given.concourse))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
