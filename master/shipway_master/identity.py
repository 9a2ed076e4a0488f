"""Who this master and its cluster are."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from shipway_master.store.cluster import ClusterRow
from shipway_master.store.database import Database

VERSION: Final = "0.38.1"
"""The release of Determined whose API this is. Announced instead of our own version, because the
clients compare it with theirs before every command and print a hint when it differs."""

_ONLY_ROW = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Ids and names that clients are shown."""

    cluster_id: str
    """Stays the same as long as the database does."""
    master_id: str
    """New at each start."""
    cluster_name: str


async def load_identity(database: Database, cluster_name: str) -> Identity:
    """Read the cluster's id, giving it one if this is the first start."""
    async with database.writing() as session:
        row = await session.get(ClusterRow, _ONLY_ROW)
        if row is None:
            row = ClusterRow(id=_ONLY_ROW, cluster_id=str(uuid.uuid4()))
            session.add(row)
    return Identity(
        cluster_id=row.cluster_id, master_id=str(uuid.uuid4()), cluster_name=cluster_name
    )
