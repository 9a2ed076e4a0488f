"""Look whether the database answers and fits, what its clock says, and who gets in too easily."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shipway_common.findings import Finding, bad, good, warn
from shipway_master.config import MasterConfig
from shipway_master.errors import CannotStart
from shipway_master.passwords import verify_password
from shipway_master.store.look import Account, Look, looking

_LIMIT_S = 20
_CLOCK_LIMIT = timedelta(seconds=10)


async def check_database(config: MasterConfig) -> AsyncIterator[Finding]:
    """Look at the database; nothing in it is changed."""
    url = config.db.resolve_url(config.data)
    key = "db.url" if config.db.url is not None else "db.host" if config.db.host else "data"
    try:
        async with asyncio.timeout(_LIMIT_S), looking(url) as look:
            if look is None:
                yield good(key, f"{url.database} will be made at the first start")
            else:
                yield _check_tables(look, key, str(url))
                if look.is_current:
                    async for finding in _check_content(look, key, config):
                        yield finding
    except CannotStart as error:
        yield bad(key, str(error))
    except TimeoutError:
        yield bad(key, f"the database {url!r} gives no answer in {_LIMIT_S} s")


def _check_tables(look: Look, key: str, name: str) -> Finding:
    if not look.is_known:
        return bad(key, f"{name} was written by a newer release: start that one")
    if look.revision is None:
        return good(key, f"{name} is empty; the first start makes its tables")
    if not look.is_current:
        text = f"{name} is of an older release, and the next start brings it up to date: back it up"
        return warn(key, f"{text} before")
    return good(key, f"{name} answers, and its tables are up to date ({look.revision})")


async def _check_content(look: Look, key: str, config: MasterConfig) -> AsyncIterator[Finding]:
    yield await _check_clock(look, key)
    first = await asyncio.to_thread(_read_first_password, config.data)
    given = config.security.initial_user_password
    if given is not None:
        yield warn(
            "security.initial_user_password",
            "is read at the first start only, which has been: take it out of the settings",
        )
    for account in await look.list_accounts():
        guesses = [
            text for text in (first, "" if given is None else given.get_secret_value()) if text
        ]
        if account.is_admin or account.username == "determined":
            async for finding in _check_password(account, guesses):
                yield finding


async def _check_clock(look: Look, key: str) -> Finding:
    theirs = await look.fetch_clock()
    now = datetime.now(UTC)
    if theirs is not None and abs(theirs - now) > _CLOCK_LIMIT:
        seconds = (now - theirs).total_seconds()
        way = "ahead of" if seconds > 0 else "behind"
        return warn(key, f"this machine's clock is {abs(seconds):.0f} s {way} the database's")
    newest = await look.fetch_newest_task()
    if newest is not None and newest > now + _CLOCK_LIMIT:
        return bad("clock", f"it says {now:%F %T} UTC, but a task began at {newest:%F %T}")
    return good("clock", f"it says {now:%F %T} UTC")


async def _check_password(account: Account, guesses: list[str]) -> AsyncIterator[Finding]:
    """Try what everybody would try first."""
    key, name = "security.initial_user_password", account.username
    change = f"det user change-password {name}"
    if await verify_password(account.password_hash, "", is_hashed=False):
        yield bad(key, f"{name} has no password; {change}")
        return
    for guess in guesses:
        if await verify_password(account.password_hash, guess, is_hashed=False):
            yield warn(key, f"{name} still has the password of the first start; {change}")
            return


def _read_first_password(data: Path) -> str:
    try:
        return (data / "initial-password").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
