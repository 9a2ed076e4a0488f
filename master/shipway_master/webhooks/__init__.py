"""Webhooks: addresses that hear when something happens."""
