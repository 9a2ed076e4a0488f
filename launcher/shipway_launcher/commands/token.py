"""`shipway-launcher token`: who may call the launcher, for what and until when."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from shipway_launcher.commands.options import run_async, settings_options
from shipway_launcher.config import LauncherSettings
from shipway_launcher.errors import SetupError
from shipway_launcher.tokenbook import TokenBook, TokenEntry, digest_of
from shipway_launcher.tokens import load_or_make_token, new_token, write_token
from shipway_launcher.users import check_user_name

_OWN_DAYS = 30.0


@click.group()
def token() -> None:
    """Make, list, revoke and replace tokens. To be run as the launcher's own user."""


@token.command()
@click.option("--user", required=True, help="Whom the token stands for.")
@click.option("--admin", is_flag=True, help="May act for everybody, as the master does.")
@click.option("--read-only", is_flag=True, help="May look at everything of the user, and no more.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Days until it expires.")
@click.option("--scope", default="", help="Name of a second master, for that master's token.")
@settings_options
@run_async
async def create(
    user: str,
    admin: bool,
    read_only: bool,
    days: float | None,
    scope: str,
    settings: LauncherSettings,
) -> None:
    """Make a token and print it; it is not kept and cannot be printed again."""
    check_user_name(user)
    made = await asyncio.to_thread(
        _add,
        settings,
        days,
        user=user,
        is_admin=admin,
        is_read_only=read_only,
        scope=scope,
    )
    click.echo(made)


@token.command()
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True, max=_OWN_DAYS),
    default=_OWN_DAYS,
    show_default=True,
    help="Days until it expires.",
)
@settings_options
@run_async
async def mine(days: float, settings: LauncherSettings) -> None:
    """Make a token for reading, for the user who runs this through sudo, and print it."""
    uid = os.environ.get("SUDO_UID", "")
    try:
        user = pwd.getpwuid(int(uid)).pw_name
    except (ValueError, KeyError):
        raise SetupError("this is to be run through sudo, which says who asks") from None
    click.echo(await asyncio.to_thread(_add, settings, days, user=user, is_read_only=True))


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
@run_async
async def list_tokens(as_json: bool, settings: LauncherSettings) -> None:
    """List the tokens, without what is secret of them."""
    book = await asyncio.to_thread(TokenBook(settings.records_dir).load)
    entries = sorted(book.values(), key=lambda entry: entry.created_at)
    if as_json:
        click.echo(json.dumps([_render(entry) for entry in entries], indent=1))
        return
    table = Table("ID", "USER", "FOR", "SCOPE", "MADE", "EXPIRES", box=None)
    for entry in entries:
        table.add_row(
            entry.id,
            entry.user,
            _purpose(entry),
            entry.scope or "-",
            f"{entry.created_at:%Y-%m-%d %H:%M}",
            f"{entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "never",
        )
    Console(highlight=False).print(table)


@token.command()
@click.argument("token_id", metavar="ID")
@settings_options
@run_async
async def revoke(token_id: str, settings: LauncherSettings) -> None:
    """Make the token of this ID worthless at once."""
    await asyncio.to_thread(TokenBook(settings.records_dir).revoke, token_id)


@token.command()
@click.option(
    "--grace-h",
    type=click.FloatRange(min=0),
    help="Hours for which the old token is still taken [default: token_grace_h].",
)
@settings_options
@run_async
async def rotate(grace_h: float | None, settings: LauncherSettings) -> None:
    """Put a new token into auth_file; the one before it is taken for a while yet."""
    grace = timedelta(hours=settings.token_grace_h if grace_h is None else grace_h)
    await asyncio.to_thread(_rotate, settings, grace)


def _rotate(settings: LauncherSettings, grace: timedelta) -> None:
    path, book = settings.token_file, TokenBook(settings.records_dir)
    user = pwd.getpwuid(os.geteuid()).pw_name
    # Where the launcher has never run, the one to replace is not in the book yet.
    book.note_current(lambda: load_or_make_token(path), user=user, grace=grace)
    book.rotate(new_token(), lambda made: write_token(path, made), user=user, grace=grace)


def _add(
    settings: LauncherSettings,
    days: float | None,
    *,
    user: str,
    is_admin: bool = False,
    is_read_only: bool = False,
    scope: str = "",
) -> str:
    made, now = new_token(), datetime.now(UTC)
    TokenBook(settings.records_dir).add(
        TokenEntry(
            digest=digest_of(made),
            user=user,
            is_admin=is_admin,
            is_read_only=is_read_only,
            scope=scope,
            created_at=now,
            expires_at=None if days is None else now + timedelta(days=days),
        )
    )
    return made


def _render(entry: TokenEntry) -> dict[str, str | None]:
    return {
        "id": entry.id,
        "user": entry.user,
        "for": _purpose(entry),
        "scope": entry.scope,
        "made": entry.created_at.isoformat(timespec="seconds"),
        "expires": entry.expires_at.isoformat(timespec="seconds") if entry.expires_at else None,
    }


def _purpose(entry: TokenEntry) -> str:
    words = ["everything" if entry.is_admin else "own"]
    if entry.is_read_only:
        words.append("reading only")
    if entry.is_current:
        words.append("auth_file")
    elif entry.is_replaced:
        words.append("replaced")
    return ", ".join(words)
