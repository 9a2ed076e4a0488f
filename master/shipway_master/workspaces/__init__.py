"""Workspaces and their projects: names, rights, and how they are shown."""
