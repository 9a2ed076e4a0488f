"""The one helper that is used at a time: looked at first, replaced when it is lost, given up at last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from shipway_launcher.errors import LauncherError
from shipway_launcher.slurm.pyslurm.process import (
    Answer,
    Helper,
    HelperGone,
    HelperLost,
    HelperUnusable,
)
from shipway_launcher.slurm.pyslurm.site import parse_config, why_sbatch
from shipway_launcher.slurm.version import SlurmVersion, parse_version

log = logging.getLogger(__name__)

_START_LIMIT_S = 30.0
_BUSY_S = 1.0
_CHECKED_FOR_S = 600.0
_CHECK_AGAIN_S = 60.0
_LIVES = 3
_LIVES_IN_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PyslurmChoice:
    """Where pyslurm is and how much it is wanted."""

    python: str
    is_wanted: bool
    """Whether somebody has asked for it, and so wants to hear that there is none."""


class GuardedHelper:
    """Answers calls by a helper process as long as one can be used; then says so once and no more."""

    def __init__(
        self,
        choice: PyslurmChoice,
        environment: Mapping[str, str],
        ask_config: Callable[[], Awaitable[str]],
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            choice: Which pyslurm.
            environment: All that the helper gets, as sbatch would.
            ask_config: Asks for the controller's settings as scontrol prints them.
        """
        self._choice, self._environment, self._ask_config = choice, environment, ask_config
        self._lock = asyncio.Lock()
        self._helper: Helper | None = None
        self._helper_version = ""
        self._checked_until = self._check_again_at = 0.0
        self._deaths: list[float] = []
        self.version: SlurmVersion | None = None
        """The controller's release, once it has been asked."""
        self.is_given_up = False
        self.reason = ""
        """Why there is no helper."""

    @property
    def is_running(self) -> bool:
        """Whether there is a helper."""
        return self._helper is not None

    async def aclose(self) -> None:
        """End the helper."""
        async with self._lock:
            await self._drop()

    async def ask(self, request: Mapping[str, object], limit_s: float) -> Answer | None:
        """Ask the helper; None: it was not asked, because there is none or it is busy for long.

        Raises:
            HelperLost: It was asked and has not answered.
        """
        if not await self._take_turn():
            return None
        try:
            helper = await self._usable()
            return None if helper is None else await self._call(helper, request, limit_s)
        finally:
            self._lock.release()

    async def is_ready(self) -> bool:
        """See whether there is a helper, and start one otherwise."""
        if self._helper is not None and time.monotonic() < self._checked_until:
            return True
        if not await self._take_turn():
            return False
        try:
            return await self._usable() is not None
        finally:
            self._lock.release()

    async def _take_turn(self) -> bool:
        """Take the lock; False when the helper is busy for long, so that it may hang."""
        try:
            async with asyncio.timeout(_BUSY_S if self._helper is not None else None):
                await self._lock.acquire()
        except TimeoutError:
            log.debug("pyslurm's helper is busy; a job for sbatch")
            return False
        return True

    async def _call(
        self, helper: Helper, request: Mapping[str, object], limit_s: float
    ) -> Answer | None:
        is_answered = False
        try:
            answer = await helper.call(request, limit_s)
            is_answered = True
        except ValueError as error:
            is_answered = True
            log.debug("a job for sbatch: %s", error)
            return None
        except HelperGone as error:
            self._note_death(str(error))
            return None
        except HelperLost as error:
            self._note_death(str(error))
            raise
        else:
            return answer
        finally:
            if not is_answered:  # its answer to this call must not be taken for that to another
                await self._drop()

    async def _usable(self) -> Helper | None:
        """Return a helper that has told its version and fits; None: there is none to be had."""
        if self.is_given_up:
            return None
        if time.monotonic() > self._checked_until and not await self._check_site():
            return None
        if self._helper is not None and self._helper.is_worn_out:
            await self._drop()
        if self._helper is None:
            try:
                self._helper = await self._start()
            except HelperUnusable as error:
                self._give_up(str(error), is_missing="No module named" in str(error))
        return self._helper

    async def _start(self) -> Helper:
        helper = Helper(self._choice.python, self._environment)
        try:
            hello = await helper.hello(_START_LIMIT_S)
            if not self._fits(hello.version):
                raise HelperUnusable(f"pyslurm {hello.version} is not for Slurm {self.version}")
        except BaseException:
            await helper.end()
            raise
        self._helper_version = hello.version
        log.info(
            "jobs are submitted through pyslurm",
            extra={"pyslurm": hello.version, "interface": hello.interface},
        )
        return helper

    async def _check_site(self) -> bool:
        """See whether this site's jobs can do without sbatch; False as long as nobody knows."""
        if time.monotonic() < self._check_again_at:
            return False
        try:
            stdout = await self._ask_config()
        except LauncherError as error:
            self.reason = f"no answer about Slurm's configuration: {error}"
            log.info("pyslurm is not used for now: %s", self.reason)
            self._check_again_at = time.monotonic() + _CHECK_AGAIN_S
            return False
        config = parse_config(stdout)
        self.version = parse_version(f"slurm {config.get('SLURM_VERSION', '')}")
        if reason := await asyncio.to_thread(why_sbatch, config):
            await self._drop()
            self._give_up(reason)
            return False
        if self._helper is not None and not self._fits(self._helper_version):
            await self._drop()  # Slurm was upgraded; another helper may load another pyslurm
        self._checked_until = time.monotonic() + _CHECKED_FOR_S
        return True

    def _fits(self, version: str) -> bool:
        """Take only the release that a pyslurm is made for: the structures differ by release."""
        ours = parse_version(f"slurm {version}.0" if version.count(".") < 2 else f"slurm {version}")
        return ours is not None and self.version is not None and ours[:2] == self.version[:2]

    def _note_death(self, cause: str) -> None:
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if now - at < _LIVES_IN_S] + [now]
        if len(self._deaths) >= _LIVES:
            self._give_up(f"its helper was lost {_LIVES} times, the last time: {cause}")
        else:
            log.info("the helper of pyslurm was lost, another will be started: %s", cause)

    def _give_up(self, reason: str, *, is_missing: bool = False) -> None:
        self.is_given_up, self.reason = True, reason
        level = logging.INFO if is_missing and not self._choice.is_wanted else logging.WARNING
        log.log(level, "pyslurm is not used, jobs are submitted by sbatch: %s", reason)

    async def _drop(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            await helper.end()
