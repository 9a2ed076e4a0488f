"""What to run to talk to Slurm, and how to read what comes back."""
