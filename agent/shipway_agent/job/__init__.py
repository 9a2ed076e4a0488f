"""`shipway-agent job`: one task of a Slurm job on this node, from its file to its exit code."""

from __future__ import annotations

from shipway_agent.job.run import run_job

__all__ = ["run_job"]
