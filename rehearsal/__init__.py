"""The rehearsal: this charm run as Juju would run it, on a throw-away copy of this machine."""
