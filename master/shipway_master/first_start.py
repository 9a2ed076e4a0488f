"""What a new database gets: the first users, the first workspace."""

from __future__ import annotations

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from shipway_common.files import write_atomic
from shipway_master.config import Security
from shipway_master.errors import CannotStart
from shipway_master.passwords import hash_password
from shipway_master.store.database import Database
from shipway_master.store.users import UserRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow

log = logging.getLogger(__name__)

_USERS = (("admin", True), ("determined", False))
_FIRST_NAME = "Uncategorized"
_FIRST_KEY = "UNC1"


async def furnish(database: Database, security: Security, data: Path) -> Path | None:
    """Create users and workspace where there are none.

    Returns:
        The file with the generated password, if there is one. It is written before the users are:
        after a crash in between, the next start uses the same file.

    Raises:
        OSError: The file cannot be read or written.
        CannotStart: The file is there, and holds no password.
    """
    path = data / "initial-password"
    async with database.reading() as session:
        if await session.scalar(select(func.count()).select_from(UserRow)):
            return path if await asyncio.to_thread(path.exists) else None
    given = security.initial_user_password
    if given is not None:
        password, shown = given.get_secret_value(), None
    else:
        password, shown = await asyncio.to_thread(_generated_password, path), path
    hashed = [await hash_password(password, is_hashed=False) for _ in _USERS]
    now = datetime.now(UTC)
    async with database.writing() as session:
        users = [
            UserRow(username=name, admin=is_admin, password_hash=stored, modified_at=now)
            for (name, is_admin), stored in zip(_USERS, hashed, strict=True)
        ]
        session.add_all(users)
        await session.flush()
        workspace = WorkspaceRow(
            name=_FIRST_NAME,
            folded_name=_FIRST_NAME.casefold(),
            user_id=users[0].id,
            immutable=True,
        )
        session.add(workspace)
        await session.flush()
        session.add(
            ProjectRow(
                workspace_id=workspace.id,
                name=_FIRST_NAME,
                folded_name=_FIRST_NAME.casefold(),
                key=_FIRST_KEY,
                notes=[],
                user_id=users[0].id,
                immutable=True,
            )
        )
    log.info("first start: users %s created", " and ".join(name for name, _ in _USERS))
    return shown


def _generated_password(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        # Letters, digits and - _: one of each kind, since clients refuse weak passwords.
        password = secrets.token_urlsafe(15) + "-Aa1"
        write_atomic(path, f"{password}\n".encode())
    if not password.isprintable() or not password:
        raise CannotStart(f"{path} holds no password: write one there, or remove the file")
    return password
