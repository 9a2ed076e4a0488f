"""One dispatch: its state, its files and its record on disk; and the set of all."""
