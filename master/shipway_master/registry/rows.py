"""Models and their versions in the database: found, named, and protected."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from shipway_master.store.models import ModelRow, ModelVersionRow

_NAME_LIMIT = 200
_ID_DIGITS = 9


def check_name(name: str) -> None:
    """Refuse what cannot be a model's name: it is a part of paths, and must not look like an id.

    Raises:
        InvalidArgument: It cannot.
    """
    if not name.strip() or not name.isprintable() or name != name.strip():
        raise InvalidArgument("the name of a model has printable characters, no spaces around it")
    if len(name) > _NAME_LIMIT:
        raise InvalidArgument(f"the name of a model has at most {_NAME_LIMIT} characters")
    if "/" in name:
        raise InvalidArgument("the name of a model has no slash in it")
    if name.isdigit():
        raise InvalidArgument("the name of a model must not be a number alone: that is an id")


async def require_free_name(session: AsyncSession, name: str) -> None:
    """Let a name be given once.

    Raises:
        AlreadyExists: A model has it.
    """
    if await session.scalar(select(ModelRow.id).where(ModelRow.name == name)) is not None:
        raise AlreadyExists(f"model '{name}' already exists")


async def get_model(session: AsyncSession, name: str, *, locks: bool = False) -> ModelRow:
    """Find a model by its name, or by its id as text.

    Args:
        locks: Whether nobody else may change it until the transaction ends.

    Raises:
        NotFound: There is none.
    """
    is_id = name.isascii() and name.isdigit() and len(name) <= _ID_DIGITS
    statement = select(ModelRow).where(
        or_(ModelRow.name == name, ModelRow.id == (int(name) if is_id else 0))
    )
    row = await session.scalar(statement.with_for_update(key_share=True) if locks else statement)
    if row is None:
        raise NotFound("model", name)
    return row


async def get_version(session: AsyncSession, model: ModelRow, number: int) -> ModelVersionRow:
    """Find a version of a model by its number.

    Raises:
        NotFound: There is none.
    """
    statement = select(ModelVersionRow).where(
        ModelVersionRow.model_id == model.id, ModelVersionRow.number == number
    )
    row = await session.scalar(statement)
    if row is None:
        raise NotFound(f"version of model '{model.name}'", number)
    return row


def require_unarchived(model: ModelRow) -> None:
    """Refuse to change what an archived model says.

    Raises:
        FailedPrecondition: It is archived.
    """
    if model.archived:
        raise FailedPrecondition(
            f"model '{model.name}' is archived and cannot have attributes updated"
        )


def require_owner(asking: Principal, *owner_ids: int) -> None:
    """Let pass who owns one of some things, and administrators.

    Raises:
        PermissionDenied: It is somebody else.
    """
    if asking.user_id not in owner_ids:
        asking.require_owner_or_admin(owner_ids[0])


def touch(*rows: ModelRow | ModelVersionRow) -> None:
    """Note that models or versions have changed just now."""
    for row in rows:
        row.updated_at = datetime.now(UTC)
