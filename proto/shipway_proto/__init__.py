"""The public API as .proto files and the code made from them, and nothing else."""
