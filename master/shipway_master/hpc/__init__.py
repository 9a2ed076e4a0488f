"""Slurm through a launcher: its client, the manifests, and the watch over running jobs."""
