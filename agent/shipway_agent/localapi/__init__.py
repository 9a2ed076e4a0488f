"""The agent's own HTTP port: metrics, containers, slots and health, to be read by whoever may reach it."""
