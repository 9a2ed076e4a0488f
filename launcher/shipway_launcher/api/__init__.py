"""The REST face of the launcher: routes, who may call them, and how errors look."""
