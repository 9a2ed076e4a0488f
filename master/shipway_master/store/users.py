"""Users, and the tokens by which requests are known to be theirs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class UserRow(Base):
    """Somebody who can log in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    username: Mapped[str] = mapped_column(String, unique=True)
    password_hash: Mapped[str | None]
    """Argon2 of the hash that clients send; NULL accepts the empty password only."""
    admin: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    remote: Mapped[bool] = mapped_column(default=False)
    display_name: Mapped[str] = mapped_column(default="")
    modified_at: Mapped[datetime] = mapped_column(UtcTime)
    last_auth_at: Mapped[datetime | None] = mapped_column(UtcTime)
    agent_uid: Mapped[int | None]
    agent_gid: Mapped[int | None]
    agent_user: Mapped[str | None]
    agent_group: Mapped[str | None]


class SessionRow(Base):
    """One log-in of a user."""

    __tablename__ = "user_sessions"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the token in hex: who reads the database cannot act as the user."""
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)


class AllocationTokenRow(Base):
    """The token of an allocation; it acts with the rights of the task's owner."""

    __tablename__ = "allocation_tokens"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    allocation_id: Mapped[str] = mapped_column(String, index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)


class AccessTokenRow(Base):
    """A token that a user had made for his programs; logging out leaves it alone."""

    __tablename__ = "access_tokens"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    is_revoked: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str] = mapped_column(default="")


class UserSettingRow(Base):
    """Something that a page remembers for a user; opaque here."""

    __tablename__ = "user_settings"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    storage_path: Mapped[str] = mapped_column(String, primary_key=True)
    key: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[str]
