"""What a manifest asks for: which runtime, which workload manager, or which query."""
