"""GPU automation in plain Python: it knows neither Juju nor Concourse."""
