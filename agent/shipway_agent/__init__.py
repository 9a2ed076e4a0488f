"""The node side of Shipway: slots, containers, logs and metrics of one machine."""
