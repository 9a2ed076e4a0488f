"""A login node elsewhere, behind a link."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from shipway_common.backoff import backoff_delays_s
from shipway_launcher.errors import TransportError
from shipway_launcher.transport.link import Link
from shipway_launcher.transport.machine import Account, Login
from shipway_launcher.transport.session import FarFacts, Session
from shipway_launcher.transport.ssh import SshTransport

log = logging.getLogger(__name__)

_QUESTION_S = 60.0


class RemoteMachine:
    """What the far end of a link does for its machine."""

    def __init__(self, user: str, link: Link) -> None:
        """Use *link*, which logs in as *user*."""
        self._user, self._link = user, link

    @property
    def user(self) -> str:
        return self._user

    @property
    def name(self) -> str:
        return self._link.name

    def transport(self, environment: Callable[[Login], Mapping[str, str]]) -> SshTransport:
        return SshTransport(self._user, self._link, lambda facts: environment(_login_of(facts)))

    async def login(self) -> Login:
        return _login_of(await self._link.facts())

    async def find_account(self, user: str) -> Account | None:
        answer = await self._link.call({"do": "account", "user": user}, limit_s=_QUESTION_S)
        found = answer.head["account"]
        return None if found is None else Account(**found)

    async def find_program(self, name: str, path: str) -> str | None:
        facts = await self._link.facts()
        question = {"do": "find", "name": name, "in": path.replace("${PATH}", facts.path)}
        answer = await self._link.call(question, limit_s=_QUESTION_S)
        found: str | None = answer.head["found"]
        return found

    async def try_forwarding(self, port: int) -> None:
        """Have a port of this machine's loopback reached from there, for as long as the link lives.

        Raises:
            TransportError: sshd does not allow it.
        """
        await self._link.forward("127.0.0.1", port)


def keep_root(link: Link, root: Path, jobs: Path, *, is_shared: bool) -> None:
    """Have the folders for jobs made behind *link*, before each session is used."""

    async def prepare(session: Session, facts: FarFacts) -> None:
        question = {"do": "prepare", "path": str(root), "jobs": str(jobs), "shared": is_shared}
        try:
            await session.call(question, limit_s=_QUESTION_S)
        except TransportError as error:
            raise TransportError(f"job_storage_root on {facts.host}: {error}") from error

    link.on_open(prepare)


def keep_user(link: Link, user: str) -> None:
    """Have no session used that somebody else is logged in to."""

    async def compare(session: Session, facts: FarFacts) -> None:
        found = facts.account.user
        if found != user:
            raise TransportError(f"ssh.user: {found} is logged in on {facts.host}, not {user}")

    link.on_open(compare)


def keep_forwarded(link: Link, port: tuple[str, int], *, at: tuple[str, int]) -> None:
    """Have a port here reached through one behind *link*, for as long as there is a session.

    sshd forwards from its loopback only, unless a site says otherwise; so the far end listens where
    the compute nodes come, and passes on what it gets.

    Args:
        link: To the other machine.
        port: Address and port here.
        at: Address and port to listen on there.
    """

    async def forward(session: Session) -> None:
        inner: int | None = None
        last_failure = ""
        for delay_s in backoff_delays_s():  # at first the port may be a former launcher's yet
            try:
                if inner is None:
                    inner = await session.stream.forward(*port)
                question = {"do": "splice", "host": at[0], "port": at[1], "to": inner}
                await session.call(question, limit_s=_QUESTION_S)
            except TransportError as error:
                if session.is_over:
                    return
                if str(error) != last_failure:
                    last_failure = str(error)
                    log.warning("jobs cannot reach the relay at %s:%s: %s", *at, error)
                await asyncio.sleep(delay_s)
            else:
                log.info("jobs reach the relay", extra={"machine": link.name, "port": at[1]})
                return

    link.beside(forward)


def _login_of(facts: FarFacts) -> Login:
    return Login(account=facts.account, path=facts.path, slurm_conf=facts.slurm_conf)
