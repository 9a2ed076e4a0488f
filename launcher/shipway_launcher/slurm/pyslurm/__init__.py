"""Jobs submitted and cancelled through pyslurm, in a process of its own that may hang or die of it."""
