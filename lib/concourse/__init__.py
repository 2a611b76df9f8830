"""Concourse on a machine, in plain Python: it knows neither Juju nor GPUs."""
