"""Lists of commands, shells and notebooks: filtered, ordered, and cut into pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.master.running import USER_ID, MasterUnderTest
from tests.proto.required import missing_required

KINDS = pytest.mark.parametrize("kind", ["command", "shell", "notebook"])
DESCRIPTIONS = {"b": "user", "a": "user", "c": "admin", "Z": "admin", "ä": "user"}
"""Of the tasks in the order in which they are made, and who makes them."""


async def fill(master: MasterUnderTest, kind: str) -> dict[str, str]:
    """Start a task for each description; return these by the tasks' ids."""
    found: dict[str, str] = {}
    for description, owner in DESCRIPTIONS.items():
        config: dict[str, Any] = {"description": description, "resources": {"slots": 1}}
        if kind == "command":
            config["entrypoint"] = ["x"]
        answer = await master.call("POST", f"/{kind}s", {"config": config}, token=owner)
        found[answer.json[kind]["id"]] = description
    return found


async def ask(master: MasterUnderTest, kind: str, query: str) -> tuple[list[Any], Any]:
    """Fetch a list and its page."""
    answer = await master.call("GET", f"/{kind}s?{query}")
    assert answer.status == 200, answer.body
    name = f"determined.api.v1.Get{kind.title()}sResponse"
    assert missing_required(name, answer.json) == []
    return answer.json[f"{kind}s"], answer.json["pagination"]


async def describe(master: MasterUnderTest, kind: str, query: str) -> str:
    """Fetch a list; return its descriptions, which are one letter each."""
    return "".join(one["description"] for one in (await ask(master, kind, query))[0])


@KINDS
async def test_order(master: MasterUnderTest, kind: str) -> None:
    made = await fill(master, kind)
    by_id = "".join(made[task_id] for task_id in sorted(made))

    assert await describe(master, kind, "") == by_id
    assert await describe(master, kind, "sortBy=SORT_BY_ID&orderBy=ORDER_BY_DESC") == by_id[::-1]
    assert await describe(master, kind, "sortBy=SORT_BY_DESCRIPTION") == "Zabcä"
    assert await describe(master, kind, "sortBy=2&orderBy=ORDER_BY_DESC") == "äcbaZ"
    assert await describe(master, kind, "sortBy=SORT_BY_START_TIME") == "bacZä"
    newest = "sortBy=SORT_BY_START_TIME&orderBy=ORDER_BY_DESC"
    assert await describe(master, kind, newest) == "äZcab"


@KINDS
async def test_filters(master: MasterUnderTest, kind: str) -> None:
    await fill(master, kind)
    oldest = "sortBy=SORT_BY_START_TIME"

    assert await describe(master, kind, f"{oldest}&users=admin") == "cZ"
    assert await describe(master, kind, f"{oldest}&users=admin&users=determined") == "bacZä"
    assert await describe(master, kind, f"{oldest}&userIds={USER_ID}") == "baä"
    assert await describe(master, kind, f"{oldest}&users=admin&userIds={USER_ID}") == "bacZä"
    assert await describe(master, kind, f"{oldest}&users=nobody") == ""
    assert await describe(master, kind, f"{oldest}&workspaceId=1") == "bacZä"
    assert await describe(master, kind, f"{oldest}&workspaceId=77") == ""


PAGES = [
    ("", "bacZä", (0, 5)),
    ("limit=2", "ba", (0, 2)),
    ("limit=2&offset=2", "cZ", (2, 4)),
    ("limit=2&offset=4", "ä", (4, 5)),
    ("offset=5", "", (5, 5)),
    ("offset=-2", "Zä", (3, 5)),
    ("offset=-5&limit=1", "b", (0, 1)),
    ("limit=100", "bacZä", (0, 5)),
    ("limit=-1", "bacZä", (0, 5)),
    ("users=admin&limit=1&offset=1", "Z", (1, 2)),
]


@KINDS
async def test_pages(master: MasterUnderTest, kind: str) -> None:
    await fill(master, kind)

    for query, shown, (start, end) in PAGES:
        found, page = await ask(master, kind, f"sortBy=SORT_BY_START_TIME&{query}")
        assert "".join(one["description"] for one in found) == shown, query
        assert (page["startIndex"], page["endIndex"]) == (start, end), query
        assert page["total"] == (2 if "users" in query else 5), query
    for query in ("offset=6", "offset=-6"):
        answer = await master.call("GET", f"/{kind}s?{query}")
        assert (answer.status, answer.error["error"]) == (400, "offset out of bounds"), query


async def test_lists_hold_tasks_of_their_own_kind_alone(master: MasterUnderTest) -> None:
    for kind in ("command", "shell", "notebook"):
        await fill(master, kind)

    for kind in ("command", "shell", "notebook"):
        assert len((await ask(master, kind, ""))[0]) == len(DESCRIPTIONS)
    tasks = (await master.call("GET", "/tasks")).json["allocationIdToSummary"]
    assert len(tasks) == 3 * len(DESCRIPTIONS)
