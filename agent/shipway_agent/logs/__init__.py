"""From the bytes a task writes to lines that a master can store."""
