"""`shipway-agent job`: one task of a Slurm job on this node, from its file to its exit code."""
