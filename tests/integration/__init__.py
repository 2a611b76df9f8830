"""The packed charm in a real Juju model."""
