"""Policies: what administrators fix or limit in the configurations of all workloads of a kind."""
