"""`make demo`: the main job of Shipway, start to end, on one machine and without privileges."""
