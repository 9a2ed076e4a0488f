"""Whole ways through the system, with its real neighbours: `det`, Slurm, Docker."""
