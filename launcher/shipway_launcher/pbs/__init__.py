"""OpenPBS (PBS Professional): what to run, how to read it, and scripts for its jobs."""
