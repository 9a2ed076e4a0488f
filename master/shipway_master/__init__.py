"""The embedded master of Shipway: Determined's public API for one machine or a small cluster."""
