"""Experiments and trials as they are looked for, and as the API shows them."""
