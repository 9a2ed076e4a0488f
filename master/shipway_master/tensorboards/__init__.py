"""TensorBoards: what they show, and how they are started."""
