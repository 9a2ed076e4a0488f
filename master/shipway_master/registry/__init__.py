"""The model registry: names for checkpoints that are worth keeping."""
