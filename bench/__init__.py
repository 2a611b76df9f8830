"""What the charm costs, each figure beside its peer's, measured in one run on one machine."""
