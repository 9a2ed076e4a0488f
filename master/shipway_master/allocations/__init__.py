"""The life of an allocation: one run of a task on resources of either kind."""
