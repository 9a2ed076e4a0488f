"""Checkpoints fetched through the master, as archives that are made while they are sent."""
