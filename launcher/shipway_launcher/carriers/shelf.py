"""Answers to queries, kept in memory until their logs have been fetched."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime

from shipway_launcher.errors import NotFound

_KEEP_S = 600.0
_MOST = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One answered query; to the API it is a dispatch that has completed."""

    id: str
    owner: str
    name: str
    payload: str
    carrier: str
    scope: str = ""
    log_name: str
    text: str
    at: datetime
    made_at: float = field(default_factory=time.monotonic)


class QueryShelf:
    """All answered queries. Old ones go by themselves, should nobody delete them."""

    def __init__(self) -> None:
        """Begin empty."""
        self._queries: dict[str, Query] = {}

    def put(self, query: Query) -> None:
        """Keep an answer."""
        oldest = time.monotonic() - _KEEP_S
        kept = [found for found in self._queries.values() if found.made_at > oldest]
        self._queries = {found.id: found for found in [*kept[1 - _MOST :], query]}

    def all(self) -> list[Query]:
        """Return all answers, oldest first."""
        return list(self._queries.values())

    def find(self, owner: str, query_id: str) -> Query | None:
        """Return an answer, None if there is none."""
        query = self._queries.get(query_id)
        return query if query is not None and query.owner == owner else None

    def remove(self, owner: str, query_id: str) -> None:
        """Forget an answer.

        Raises:
            NotFound: There is none.
        """
        if self.find(owner, query_id) is None:
            raise NotFound(f"{owner} has no environment {query_id[:200]}")
        del self._queries[query_id]


def new_query_id() -> str:
    """Make an id in the form that the original launcher gave."""
    return f"{secrets.token_hex(8)}-{secrets.token_hex(8)}"
