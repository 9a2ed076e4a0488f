"""What users start: commands and generic tasks, their configuration and their life."""
