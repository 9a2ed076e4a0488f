"""Use as CSV for those who ask with a browser, a script or `det resources`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from aiohttp import web

from shipway_master.auth import Authenticator
from shipway_master.errors import InvalidArgument
from shipway_master.gateway.site import require_user
from shipway_master.store.database import Database
from shipway_master.usage.runs import Run, load_runs
from shipway_master.usage.sums import parse_periods, sum_up
from shipway_master.usage.tables import (
    ALLOCATION_COLUMNS,
    RAW_COLUMNS,
    SUM_COLUMNS,
    allocation_row,
    raw_row,
    sum_rows,
    write_rows,
)

_FOLDER = "/resources/allocation"
_DAILY, _MONTHLY = (
    f"RESOURCE_ALLOCATION_AGGREGATION_PERIOD_{name}" for name in ("DAILY", "MONTHLY")
)


class UsageRoutes:
    """The tables of use; every user may read them."""

    def __init__(self, database: Database, authenticator: Authenticator) -> None:
        self._database, self._authenticator = database, authenticator

    def routes(self) -> list[web.RouteDef]:
        """List the routes for the site."""
        return [
            web.get(f"{_FOLDER}/raw", self._raw),
            web.get(f"{_FOLDER}/allocations-csv", self._allocations),
            web.get(f"{_FOLDER}/aggregated", self._sums),
        ]

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        return await self._runs(request, RAW_COLUMNS, raw_row)

    async def _allocations(self, request: web.Request) -> web.StreamResponse:
        return await self._runs(request, ALLOCATION_COLUMNS, allocation_row)

    async def _runs(
        self,
        request: web.Request,
        columns: Sequence[str],
        write: Callable[[Run], Sequence[object]],
    ) -> web.StreamResponse:
        await require_user(request, self._authenticator)
        after, before = (_moment(request, f"timestamp_{name}") for name in ("after", "before"))
        response = web.StreamResponse(headers={"Content-Type": "text/csv; charset=utf-8"})
        await response.prepare(request)
        await response.write(write_rows([columns]).encode())
        async for page in load_runs(self._database, after, before):
            await response.write(write_rows(map(write, page)).encode())
        await response.write_eof()
        return response

    async def _sums(self, request: web.Request) -> web.Response:
        await require_user(request, self._authenticator)
        period = request.query.get("period", _DAILY)
        if period not in (_DAILY, _MONTHLY):
            raise InvalidArgument(f"period must be {_DAILY} or {_MONTHLY}, not {period!r}")
        first, last = (request.query.get(f"{name}_date", "") for name in ("start", "end"))
        periods = parse_periods(first, last, is_monthly=period == _MONTHLY)
        pages = load_runs(self._database, periods[0].begin, periods[-1].end)
        rows = [row for one in await sum_up(pages, periods) for row in sum_rows(one)]
        return web.Response(text=write_rows([SUM_COLUMNS, *rows]), content_type="text/csv")


def _moment(request: web.Request, name: str) -> datetime:
    text = request.query.get(name, "")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidArgument(f"{name} must be like 2030-01-31T12:00:00Z, not {text!r}") from error
