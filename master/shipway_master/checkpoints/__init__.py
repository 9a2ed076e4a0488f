"""Checkpoints: their records, which of them are kept, how the others go, and downloads."""
