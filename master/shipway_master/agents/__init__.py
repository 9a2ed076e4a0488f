"""Node agents: their websocket, their slots, and the placing of tasks on them."""
