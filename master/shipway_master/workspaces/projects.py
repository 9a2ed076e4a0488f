"""What projects are called and say, checked where it is stored."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import AlreadyExists, InvalidArgument
from shipway_master.store.workspaces import ProjectRow
from shipway_master.workspaces.names import check_name, fold_name, make_key, read_key
from shipway_proto.determined.project.v1.project_pb2 import Note, PatchProject

_KEY_TRIES: Final = 100
_LONGEST_DESCRIPTION: Final = 10_000
_LONGEST_NOTES: Final = 1_000_000


async def apply_changes(session: AsyncSession, row: ProjectRow, changes: PatchProject) -> None:
    """Change what a request names.

    Raises:
        InvalidArgument: A value cannot be.
        AlreadyExists: The name or the key is another one's.
    """
    if changes.HasField("name"):
        check_name("project", changes.name.value)
        row.name, row.folded_name = changes.name.value, fold_name(changes.name.value)
        await require_free_name(session, row)
    if changes.HasField("description"):
        check_description(changes.description.value)
        row.description = changes.description.value
    if changes.HasField("key"):
        key = read_key(changes.key.value)
        if key != row.key:
            await require_free_key(session, key)
        row.key = key


async def require_free_name(session: AsyncSession, row: ProjectRow) -> None:
    """Refuse a name that another project of the workspace has; raises AlreadyExists."""
    statement = select(ProjectRow.id).where(
        ProjectRow.workspace_id == row.workspace_id, ProjectRow.folded_name == row.folded_name
    )
    with session.no_autoflush:
        taken = await session.scalar(statement)
    if taken not in (None, row.id):
        raise AlreadyExists(
            f"project '{row.name}' already exists in the workspace; upper and lower case do not "
            "matter"
        )


async def require_free_key(session: AsyncSession, key: str) -> None:
    """Refuse a key that another project has; raises AlreadyExists."""
    if await _is_taken(session, key):
        raise AlreadyExists(f"project key {key} is already in use")


async def find_free_key(session: AsyncSession, name: str) -> str:
    """Make up a key that no project has yet."""
    for _ in range(_KEY_TRIES):
        key = make_key(name)
        if not await _is_taken(session, key):
            return key
    raise AlreadyExists(f"no key is left that begins like {name!r}: give one by --key")


async def _is_taken(session: AsyncSession, key: str) -> bool:
    return await session.scalar(select(ProjectRow.id).where(ProjectRow.key == key)) is not None


def check_description(text: str) -> None:
    """Refuse what would make each list of projects slow; raises InvalidArgument."""
    if len(text) > _LONGEST_DESCRIPTION:
        raise InvalidArgument(f"a description has at most {_LONGEST_DESCRIPTION} characters")


def check_notes(notes: list[dict[str, str]]) -> list[dict[str, str]]:
    """Give the notes back; raises as `check_description`."""
    if sum(len(text) for note in notes for text in note.values()) > _LONGEST_NOTES:
        raise InvalidArgument(f"the notes of a project have at most {_LONGEST_NOTES} characters")
    return notes


def dump_note(note: Note) -> dict[str, str]:
    """Write a note as it is stored."""
    return {"name": note.name, "contents": note.contents}
