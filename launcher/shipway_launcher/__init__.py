"""The Slurm side of Shipway: manifests become batch jobs, and their signals reach the master."""
