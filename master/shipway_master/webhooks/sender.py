"""Makes the calls, and makes them again when they fail."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import aiohttp

from shipway_master.errors import Unavailable
from shipway_master.webhooks.body import sign
from shipway_master.webhooks.records import Delivery, WebhookRecords

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
"""How long to wait after each failed try; after the last one it is given up."""

_LIMIT_S = 10
_AT_ONCE = 8
_PASSING = frozenset({408, 425, 429})
_ASK_AGAIN_S = 60.0
_AFTER_TROUBLE_S = 5.0


class CallFailed(Exception):
    """The other side did not take it."""

    def __init__(self, text: str, *, may_pass: bool) -> None:
        super().__init__(text)
        self.may_pass = may_pass


class Sender:
    """Sends what is in the database, from the oldest on."""

    def __init__(
        self,
        records: WebhookRecords,
        *,
        key: str,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._records = records
        self._key = key
        self._retry_delays_s = retry_delays_s
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look for new deliveries now."""
        self._news.set()

    async def keep_sending(self) -> None:
        """Send for ever."""
        async with _open_session() as session:
            while True:
                self._news.clear()
                try:
                    due = await self._records.load_due(limit=_AT_ONCE)
                    async with asyncio.TaskGroup() as group:
                        for delivery in due:
                            group.create_task(self._deliver(session, delivery))
                    if not due:
                        await self._wait(await self._records.find_next_due())
                except* Unavailable as errors:
                    # What was sent and could not be noted is sent again.
                    log.warning("calls of webhooks wait for the database: %s", errors.exceptions[0])
                    await asyncio.sleep(_AFTER_TROUBLE_S)

    async def try_once(self, url: str, body: str) -> bool:
        """Make one call now, and say whether it was taken."""
        async with _open_session() as session:
            try:
                await self._call(session, url, body)
            except CallFailed as error:
                log.info("the trial of a webhook failed", extra={"error": str(error)})
                return False
        return True

    async def _call(self, session: aiohttp.ClientSession, url: str, body: str) -> None:
        """Make one call.

        Raises:
            CallFailed: It was not taken.
        """
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "X-Determined-AI-Signature-Timestamp": str(timestamp),
            "X-Determined-AI-Signature": sign(body, key=self._key, timestamp=timestamp),
        }
        try:
            async with session.post(
                url, data=body.encode(), headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(type(error).__name__, may_pass=True) from error
        if not 200 <= status < 300:
            may_pass = status >= 500 or status in _PASSING
            raise CallFailed(f"it answered {status}", may_pass=may_pass)

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        try:
            await self._call(session, delivery.url, delivery.body)
        except CallFailed as error:
            # The address is not logged: it may hold a secret.
            told = {"webhook": delivery.name, "tries": delivery.tries + 1, "error": str(error)}
            if error.may_pass and delivery.tries < len(self._retry_delays_s):
                log.info("a webhook does not answer; it is called again later", extra=told)
                delay_s = self._retry_delays_s[delivery.tries]
                await self._records.postpone(delivery, delay_s=delay_s)
                return
            log.warning("the call of a webhook is given up", extra=told)
        await self._records.settle(delivery)

    async def _wait(self, next_due: datetime | None) -> None:
        """Wait for news, or until a delivery is due."""
        delay_s = _ASK_AGAIN_S
        if next_due is not None:
            delay_s = min(max((next_due - datetime.now(UTC)).total_seconds(), 0.05), delay_s)
        try:
            async with asyncio.timeout(delay_s):
                await self._news.wait()
        except TimeoutError:
            return


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_LIMIT_S), cookie_jar=aiohttp.DummyCookieJar()
    )
