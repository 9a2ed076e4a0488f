"""Delays grow to a limit and never exceed it."""

from __future__ import annotations

from itertools import islice

from shipway_common.backoff import backoff_delays_s


def test_delays_grow_to_the_limit_within_the_jitter() -> None:
    delays = list(islice(backoff_delays_s(first_s=1, factor=2, limit_s=8, jitter=0.5), 6))
    for delay_s, full_s in zip(delays, (1, 2, 4, 8, 8, 8), strict=True):
        assert full_s / 2 <= delay_s <= full_s


def test_two_clients_do_not_return_together() -> None:
    assert list(islice(backoff_delays_s(), 5)) != list(islice(backoff_delays_s(), 5))
