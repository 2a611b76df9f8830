"""What `systemctl show` prints of a service, for the stand-ins for systemctl."""

from __future__ import annotations


def shown(**properties: object) -> str:
    """Return an enabled service's properties, one a line: those given, else of one at rest."""
    whole = {
        "LoadState": "loaded",
        "ActiveState": "inactive",
        "SubState": "dead",
        "MainPID": 0,
        "Result": "success",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        **properties,
    }
    return "".join(f"{name}={value}\n" for name, value in whole.items())
