"""What access lists come to for bob, who is not the owner."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_launcher.acls import Level
from shipway_launcher.api.wire import parse_acls

BOB, ALL, EVE = ["bob"], ["*"], ["eve"]


@pytest.mark.parametrize(
    ("lists", "levels"),
    [
        ({}, ""),
        ({"read": {"allowed": EVE}}, ""),
        ({"read": {"allowed": BOB}}, "read"),
        ({"read": {"allowed": ALL}}, "read"),
        ({"write": {"allowed": BOB}}, "read write"),
        ({"write": {"allowed": ALL}}, "read write"),
        ({"admin": {"allowed": BOB}}, "read write admin"),
        ({"admin": {"allowed": ALL}}, "read write admin"),
        ({"read": {"allowed": BOB, "forbidden": BOB}}, ""),
        ({"read": {"allowed": ALL, "forbidden": BOB}}, ""),
        ({"read": {"allowed": ALL, "forbidden": EVE}}, "read"),
        ({"read": {"allowed": BOB, "forbidden": ALL}}, "read"),
        ({"read": {"allowed": ALL, "forbidden": ALL}}, ""),
        ({"read": {"forbidden": ALL}, "write": {"allowed": BOB}}, "read write"),
        ({"read": {"forbidden": ALL}, "write": {"allowed": ALL}}, "write"),
        ({"read": {"allowed": ALL}, "write": {"forbidden": ALL}}, "read"),
        ({"write": {"allowed": ALL, "forbidden": BOB}}, ""),
        ({"write": {"forbidden": BOB}, "admin": {"allowed": BOB}}, "read admin"),
        ({"read": {"forbidden": BOB}, "admin": {"allowed": BOB}}, "write admin"),
    ],
    ids=str,
)
def test_what_bob_may_do(lists: Any, levels: str) -> None:
    acls = parse_acls(lists)
    assert [str(level) for level in Level if acls.allow("bob", level)] == levels.split()
