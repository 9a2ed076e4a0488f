"""Experiments: what decides about trials, and the life of each."""
